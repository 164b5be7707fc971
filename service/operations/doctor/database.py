"""Checks of the SQL database and its content."""

from service.clock import unix_seconds
from service.errors import StoreUnavailable
from service.messages.events import list_latest_logins
from service.operations.doctor.finding import Deployment, Finding, compare_clocks
from service.roles import EVERYONE
from service.storage.database import SCHEMA, schema_revision
from service.storage.postgresql_checks import compare_collations, explain_missing_schema
from service.users.user_claims import list_absent_claims
from service.users.user_roles import list_absent_roles

MIN_LOGINS, MIN_USERS = 20, 5
"""Numbers of logins and of users from which one common address is suspicious."""


async def check_schema(deployment: Deployment) -> list[Finding]:
    """Check that the database can be used, and has the schema of this version."""
    database = deployment.database
    try:
        await database.open()
        revision = await schema_revision(database)
        if revision is not None and revision.isdigit() and revision > SCHEMA:
            what = f"The schema is {revision}, newer than this version of Keyturn, which knows {SCHEMA}."
            return [Finding("wrong", what, "Run the version of Keyturn that migrated the database, or a newer one.")]
        if revision != SCHEMA:
            elsewhere = None
            if revision is None and deployment.settings.database_url is not None:
                elsewhere = await explain_missing_schema(database)
            what = f"The schema is {revision or 'missing'}; this version of Keyturn needs {SCHEMA}."
            return [Finding("wrong", what, elsewhere or "Run: keyturn migrate")]
        await database.probe()
    except StoreUnavailable as error:
        return [Finding("wrong", f"The database cannot be used. {error.why}".rstrip())]
    return [Finding("ok", f"The database answers; its schema is {SCHEMA}.")]


async def check_collation(deployment: Deployment) -> list[Finding]:
    """Check that the server sorts text with the version of the collation that the database has recorded."""
    if deployment.settings.database_url is None:
        return []
    changed = await compare_collations(deployment.database)
    if changed is None:
        return []
    name, made, now = changed
    what = f"The database {name} has recorded version {made} of its collation; the server has {now}."
    advice = (
        "Keyturn's own indexes do not depend on it. For everything else in this database run REINDEX DATABASE, then "
        f'ALTER DATABASE "{name}" REFRESH COLLATION VERSION.'
    )
    return [Finding("warning", what, advice)]


async def check_isolation(deployment: Deployment) -> list[Finding]:
    """Check that a statement outside a transaction runs at the isolation level that it is written for."""
    if deployment.settings.database_url is None:
        return []
    row = await deployment.database.fetch_one("SELECT current_setting('default_transaction_isolation') AS level")
    if row is None or row["level"] == "read committed":
        return []
    what = f"The default isolation level of the database is {row['level']}: concurrent requests may get 503."
    advice = "Run ALTER ROLE ... SET default_transaction_isolation = 'read committed', or remove it from the URL."
    return [Finding("warning", what, advice)]


async def check_database_clock(deployment: Deployment) -> list[Finding]:
    """Check that PostgreSQL's clock agrees with this machine's."""
    if deployment.settings.database_url is None:
        return []
    row = await deployment.database.fetch_one("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT) AS now")
    return [compare_clocks("The database's", unix_seconds(deployment.clock()) - (0 if row is None else row["now"]))]


async def check_policy(deployment: Deployment) -> list[Finding]:
    """Check that some user has each role in KEYTURN_REQUIRE_MFA. A misspelt one demands a second factor of nobody."""
    named = [role for role in deployment.settings.require_mfa if role != EVERYONE]
    advice = (
        "If it is misspelt, correct it. For all users write everyone. Otherwise add the role to its users: keyturn "
        "users role add"
    )
    return [
        Finding("warning", f"KEYTURN_REQUIRE_MFA names the role {role}, which no user has.", advice)
        for role in await list_absent_roles(deployment.database, named)
    ]


async def check_static_claims(deployment: Deployment) -> list[Finding]:
    """Check that some user has each static claim in KEYTURN_CLAIMS. No token has one that is misspelt."""
    advice = (
        "If it is misspelt, correct it. Otherwise give it to its users: PATCH /admin/users/{sub}, or keyturn users "
        "set-claims"
    )
    return [
        Finding("warning", f"KEYTURN_CLAIMS names the static claim {name}, which no user has.", advice)
        for name in await list_absent_claims(deployment.database, deployment.settings.claims)
    ]


async def check_addresses(deployment: Deployment) -> list[Finding]:
    """Check that users log in from different addresses. A single one is probably that of an unnamed proxy."""
    logins = await list_latest_logins(deployment.database, MIN_LOGINS * 5)
    users, addresses = {user_id for user_id, _ in logins}, {address for _, address in logins}
    if len(logins) < MIN_LOGINS or len(users) < MIN_USERS or len(addresses) > 1:
        return []
    return [
        Finding(
            "wrong",
            f"The last {len(logins)} logins, of {len(users)} users, all came from {addresses.pop()}.",
            "If that is the address of your proxy, name it in KEYTURN_TRUSTED_PROXIES. Until then all "
            "its clients count as one address and share its rate limits.",
        )
    ]
