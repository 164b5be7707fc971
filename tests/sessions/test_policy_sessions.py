"""KEYTURN_REQUIRE_MFA applies to the sessions that were opened without a second factor."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from httpx2 import AsyncClient, Response
from hypothesis import example, given
from hypothesis import strategies as st

from service.components import Components
from service.origin import OPERATOR
from service.settings import Settings
from service.storage.database import Database
from service.users.mfa_policy import MfaPolicy
from tests.harness.clients import Client, Opener
from tests.harness.devices import log_in, remember
from tests.harness.enrolment import enrol
from tests.harness.log_records import details_of
from tests.harness.people import PASSWORD, MovableClock, Person, secret_in, sign_up
from tests.harness.relying_services import add_client, basic, introspect
from tests.harness.servers import make_schema
from tests.harness.sessions import bearer, claims, refresh
from tests.previous_version import serving

POLICIES = {"everyone": {"require_mfa": "everyone"}, "role": {"require_mfa": "admin, staff"}}
DEVICES = {"remember_device_days": 30}

ACCOUNT_REQUESTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("GET", "/me", {}),
    ("PATCH", "/me", {"locale": "de"}),
    ("GET", "/sessions", {}),
    ("GET", "/events", {}),
    ("GET", "/factors", {}),
    ("PATCH", "/factors/pZ9yKq2mX0d4Wc1bR7tLhA", {"name": "Tablet"}),
    ("DELETE", "/factors/pZ9yKq2mX0d4Wc1bR7tLhA", {}),
    ("DELETE", "/sessions/pZ9yKq2mX0d4Wc1bR7tLhA", {}),
    ("DELETE", "/recovery", {}),
    ("POST", "/step-up", {}),
    ("POST", "/recovery-codes", {}),
    ("POST", "/enable-mfa", {"password": PASSWORD}),
    ("POST", "/password", {"current_password": PASSWORD, "new_password": "an entirely new passphrase"}),
    ("POST", "/email", {"email": "bob@example.com", "password": PASSWORD}),
    ("DELETE", "/email", {}),
    ("GET", "/me/export", {}),
    ("DELETE", "/me", {"password": PASSWORD}),
    ("POST", "/logout", {}),
    ("POST", "/logout?everywhere=true", {}),
)
"""Every request that an access token permits."""


async def send(client: AsyncClient, method: str, path: str, body: dict[str, Any], token: str) -> Response:
    more: dict[str, Any] = {"json": body} if body else {}
    return await client.request(method, path, headers=bearer(token), **more)


async def verify(client: Client, token: str) -> int:
    await client.parts.housekeeping.read_ended()
    return (await client.get("/verify", headers=bearer(token))).status_code


@asynccontextmanager
async def open_stricter(open_client: Opener, world: dict[str, Any], bob: Person) -> AsyncIterator[Client]:
    """Open a second replica whose policy refuses Bob's sessions, and wait until its first pass over them is over."""
    earlier = (await bob.give_password()).json()["access_token"]
    async with open_client(world) as stricter:
        async with asyncio.timeout(20):
            while (await send(bob.client, "GET", "/me", {}, earlier)).is_success:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        yield stricter


@pytest.fixture
async def before(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> AsyncIterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The settings, and the tokens of Bob, an administrator who logged in with the password before the policy."""
    async with open_client({**world, **DEVICES}) as client:
        bob = await sign_up(client, clock, "bob", mfa=False)
        await client.parts.administration.set_roles("bob", add="admin", by=OPERATOR)
        yield world, (await bob.give_password()).json()


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_session_from_before_the_policy_is_refused(
    before: tuple[dict[str, Any], dict[str, Any]], open_client: Opener, clock: MovableClock, policy: str
) -> None:
    """Its access token and its refresh token are treated as those of an ended session, at every endpoint."""
    world, tokens = before
    access = tokens["access_token"]
    async with open_client({**world, **POLICIES[policy]}) as client:
        checker = basic("billing", await add_client(client, clock, "billing"))
        for method, path, body in ACCOUNT_REQUESTS:
            answer = await send(client, method, path, body, access)
            assert (401, "invalid_token") == (answer.status_code, answer.json()["code"]), path
        assert 401 == await verify(client, access)
        for token in (access, tokens["refresh_token"]):
            assert {"active": False} == await introspect(client, token, checker)
        for _ in range(2):
            answer = await refresh(client, tokens["refresh_token"])
            assert (400, "invalid_grant") == (answer.status_code, answer.json()["error"])
        tokens_after = await enrol(client, Person(client, clock, "bob"))
        assert "aal2" == claims(tokens_after["access_token"])["acr"]
        assert 200 == (await refresh(client, tokens_after["refresh_token"])).status_code
        assert 204 == await verify(client, tokens_after["access_token"])


async def test_every_account_endpoint_is_in_the_table(world: dict[str, Any], open_client: Opener) -> None:
    """A new endpoint with a bearer token must be added to the requests of these tests."""
    async with open_client({**world, "docs": True}) as client:
        document = (await client.get("/openapi.json")).json()
    declared = {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if {"accessToken": []} in operation.get("security", [])
    }
    tried = {
        (method, path.partition("?")[0].replace("pZ9yKq2mX0d4Wc1bR7tLhA", "{}"))
        for method, path, _ in ACCOUNT_REQUESTS
    }
    named = {
        (method, "/".join("{}" if "{" in part else part for part in path.split("/"))) for method, path in declared
    }
    assert named - {("GET", "/verify")} == tried


@pytest.mark.parametrize("policy", ["off", "staff"])
async def test_a_policy_that_does_not_name_the_user_ends_no_session(
    before: tuple[dict[str, Any], dict[str, Any]], open_client: Opener, policy: str
) -> None:
    """The session of a user without a named role continues, and the pass over all sessions leaves it."""
    world, tokens = before
    async with open_client({**world, "require_mfa": policy}) as client:
        assert 0 == await client.parts.housekeeping.enforce_policy()
        assert 204 == await verify(client, tokens["access_token"])
        assert 200 == (await send(client, "GET", "/me", {}, tokens["access_token"])).status_code
        assert 200 == (await refresh(client, tokens["refresh_token"])).status_code


@pytest.mark.parametrize("devices", [{}, DEVICES], ids=["without devices", "with devices"])
async def test_a_role_that_the_policy_names_ends_sessions_at_once(
    world: dict[str, Any], open_client: Opener, clock: MovableClock, devices: dict[str, Any]
) -> None:
    """The command says how many, the user's events say why, and /verify refuses after its next reading."""
    async with open_client({**world, **devices, "require_mfa": "admin"}) as client:
        bob = await sign_up(client, clock, "bob", mfa=False)
        one, two = [(await bob.give_password()).json() for _ in range(2)]
        assert 204 == await verify(client, one["access_token"])
        administration = client.parts.administration
        assert (("staff",), None) == astuple(await administration.set_roles("bob", add="staff", by=OPERATOR))
        assert 200 == (await send(client, "GET", "/me", {}, one["access_token"])).status_code
        assert (("admin", "staff"), 2) == astuple(await administration.set_roles("bob", add="admin", by=OPERATOR))
        assert (("admin", "staff"), 0) == astuple(await administration.set_roles("bob", add="admin", by=OPERATOR))
        for tokens in (one, two):
            assert 401 == await verify(client, tokens["access_token"])
            assert 400 == (await refresh(client, tokens["refresh_token"])).status_code
        tokens_after = await enrol(client, bob)
        events = (await send(client, "GET", "/events", {}, tokens_after["access_token"])).json()["events"]
        ended = [event["details"] for event in events if event["event"] == "session.ended"]
        assert [{"reason": "mfa_required", "sessions": 2, "by": "operator"}] == ended


def astuple(changed: Any) -> tuple[tuple[str, ...], int | None]:
    return changed.roles, changed.ended


async def test_a_refused_refresh_ends_the_session_for_gateways(
    world: dict[str, Any], open_client: Opener, clock: MovableClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Where known devices are accepted, /verify cannot decide by the token alone: it needs the ended session."""
    async with open_client({**world, **DEVICES}) as client:
        bob = await sign_up(client, clock, "bob", mfa=False)
        async with open_stricter(open_client, {**world, **DEVICES, "require_mfa": "everyone"}, bob) as later:
            tokens = (await bob.give_password()).json()  # at a replica without the policy
            assert 204 == await verify(later, tokens["access_token"])
            assert 401 == (await send(later, "GET", "/me", {}, tokens["access_token"])).status_code
            with caplog.at_level("INFO", "keyturn"):
                assert 400 == (await refresh(later, tokens["refresh_token"])).status_code
            refused = [record for record in caplog.records if record.message == "session.refresh_refused"]
            assert ["mfa_required"] == [details_of(record)["reason"] for record in refused]
            assert 401 == await verify(later, tokens["access_token"])
            assert 400 == (await refresh(client, tokens["refresh_token"])).status_code, (
                "the session has ended at the other replica, too"
            )


async def test_introspection_reports_a_refused_token_as_inactive(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """This holds before the session is ended."""
    async with open_client({**world, **DEVICES}) as client:
        bob = await sign_up(client, clock, "bob", mfa=False)
        async with open_stricter(open_client, {**world, **DEVICES, "require_mfa": "everyone"}, bob) as later:
            checker = basic("billing", await add_client(client, clock, "billing"))
            tokens = (await bob.give_password()).json()
            for name in ("access_token", "refresh_token"):
                assert (await introspect(client, tokens[name], checker))["active"]
                assert {"active": False} == await introspect(later, tokens[name], checker)


async def test_verify_refuses_by_the_token_without_a_store(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """Where no known device is accepted, an aal1 token with a role that the policy names is invalid at once."""
    async with open_client({**world, "require_mfa": "staff"}) as client:
        bob = await sign_up(client, clock, "bob", mfa=False)
        await client.parts.administration.set_roles("bob", add="admin", by=OPERATOR)
        async with open_stricter(open_client, {**world, "require_mfa": "admin"}, bob) as later:
            token = (await bob.give_password()).json()["access_token"]
            assert 204 == (await client.get("/verify", headers=bearer(token))).status_code
            answer = await later.get("/verify", headers=bearer(token))
            assert (401, "invalid_token") == (answer.status_code, answer.json()["code"])


async def test_the_grace_period_does_not_bypass_the_policy(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """A token replaced just before the role was added gets no successor, and is not taken for a reused one."""
    async with open_client({**world, "require_mfa": "admin"}) as client:
        bob = await sign_up(client, clock, "bob", mfa=False)
        first = (await bob.give_password()).json()["refresh_token"]
        second = (await refresh(client, first)).json()["refresh_token"]
        async with open_client(world) as other:  # a role from a command that does not know the policy
            await other.parts.administration.set_roles("bob", add="admin", by=OPERATOR)
        for token in (first, second, first):
            assert "invalid_grant" == (await refresh(client, token)).json()["error"]
        assert "mfa_required" == await ended_reason(client.parts)


async def ended_reason(parts: Components) -> str | None:
    row = await parts.database.fetch_one("SELECT ended_reason FROM sessions")
    assert row is not None
    reason: str | None = row["ended_reason"]
    return reason


async def test_a_known_device_keeps_its_session_where_devices_are_accepted(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """Its aal1 session is refreshed, listed and stepped up; neither a role nor a pass over all sessions ends it."""
    async with open_client({**world, **DEVICES, "require_mfa": "admin"}) as client:
        alice = await sign_up(client, clock, "alice")
        await alice.confirm()
        clock.next_step()
        device = await remember(alice)
        tokens = (await log_in(alice, device_token=device)).json()
        assert ("aal1", ["pwd"]) == (claims(tokens["access_token"])["acr"], claims(tokens["access_token"])["amr"])
        assert 0 == (await client.parts.administration.set_roles("alice", add="admin", by=OPERATOR)).ended
        assert 0 == await client.parts.housekeeping.enforce_policy()
        tokens = (await refresh(client, tokens["refresh_token"])).json()
        assert ("aal1", ["admin"]) == (claims(tokens["access_token"])["acr"], claims(tokens["access_token"])["roles"])
        checker = basic("billing", await add_client(client, clock, "billing"))
        assert (await introspect(client, tokens["access_token"], checker))["active"]
        assert 204 == await verify(client, tokens["access_token"])
        listed = (await send(client, "GET", "/sessions", {}, tokens["access_token"])).json()["sessions"]
        assert {"aal1", "aal2"} == {session["acr"] for session in listed}
        assert 200 == (await send(client, "POST", "/step-up", {}, tokens["access_token"])).status_code


async def test_a_known_device_loses_its_session_where_devices_are_not_accepted(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """With KEYTURN_REMEMBER_DEVICE_DAYS at 0, a session of a known device counts as one without second factor."""
    async with open_client({**world, **DEVICES, "require_mfa": "everyone"}) as client:
        alice = await sign_up(client, clock, "alice")
        await alice.confirm()
        clock.next_step()
        device = await remember(alice)
        tokens = (await log_in(alice, device_token=device)).json()
    async with open_client({**world, "require_mfa": "everyone"}) as client:
        assert 401 == (await send(client, "GET", "/me", {}, tokens["access_token"])).status_code
        assert 401 == await verify(client, tokens["access_token"])
        assert 400 == (await refresh(client, tokens["refresh_token"])).status_code
        alice.client = client
        assert (await log_in(alice, device_token=device)).json()["mfa_required"]


async def test_a_start_ends_refused_sessions_and_logs_their_number(
    world: dict[str, Any], open_client: Opener, clock: MovableClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It runs in pages in the background with one log line; sessions with a second factor stay."""
    async with open_client({**world, "limit_signup": None}) as client:
        alice = await sign_up(client, clock, "alice")
        strong = (await alice.confirm()).json()
        bob = await sign_up(client, clock, "bob", mfa=False)
        weak = [(await bob.give_password()).json() for _ in range(3)]
        await multiply(client.parts.database, 2100)
    with caplog.at_level("INFO", "keyturn"):
        async with open_client({**world, **DEVICES, "require_mfa": "everyone"}) as client:
            async with asyncio.timeout(20):
                while not (lines := [r for r in caplog.records if r.message == "sessions.ended_by_policy"]):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            assert [2103] == [details_of(line)["sessions"] for line in lines]
            assert {401} == {await verify(client, tokens["access_token"]) for tokens in weak}
            assert 200 == (await refresh(client, strong["refresh_token"])).status_code
            assert 0 == await client.parts.housekeeping.enforce_policy()


async def multiply(database: Database, copies: int) -> None:
    """Insert that many copies of Bob's session: as many logins would take minutes."""
    async with database.begin() as transaction:
        row = await transaction.fetch_one("SELECT * FROM sessions WHERE acr = 'aal1' LIMIT 1")
        assert row is not None
        columns = [name for name in dict(row) if name not in {"id", "pending_jti"}]
        listed = ", ".join(columns)
        await transaction.execute(
            f"INSERT INTO sessions (id, {listed}) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
            f" WHERE i < {copies}) SELECT 'copy-' || i, {listed} FROM n, sessions WHERE id = $1",
            row["id"],
        )


async def test_a_role_added_between_the_password_and_the_session_opens_none(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """The login that has read the old roles is refused, and the next one demands the enrolment."""
    async with open_client({**world, "require_mfa": "admin"}) as client:
        bob = await sign_up(client, clock, "bob", mfa=False)
        parts = client.parts
        clock.creeps = 0.001
        real, changes = parts.keys.get_signing_key, []

        async def with_a_role_meanwhile(now: Any) -> Any:
            changes.append(await parts.administration.set_roles("bob", add="admin", by=OPERATOR))
            return await real(now)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parts.keys, "get_signing_key", with_a_role_meanwhile)
            refused = await bob.give_password()
        assert (401, "invalid_credentials") == (refused.status_code, refused.json()["code"])
        assert [0] == [change.ended for change in changes]
        assert await parts.database.fetch_one("SELECT id FROM sessions") is None
        await enrol(client, bob)


@pytest.mark.heavy
async def test_a_role_added_during_refreshes_and_logins_leaves_no_session(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """In any order, no token has both the role and aal1, and no session without second factor is left."""
    limits = dict.fromkeys(("limit_signup", "limit_login", "limit_login_address", "limit_login_username"))
    async with open_client({**world, **limits, "require_mfa": "admin"}) as client:
        parts, ended = client.parts, 0
        for number in range(12):
            bob = await sign_up(client, clock, f"bob{number}", mfa=False)
            opened = [(await bob.give_password()).json()["refresh_token"] for _ in range(3)]
            changing = asyncio.create_task(parts.administration.set_roles(bob.username, add="admin", by=OPERATOR))
            answers = await asyncio.gather(
                *(refresh(client, token) for token in opened * 2), *(bob.give_password() for _ in range(3))
            )
            ended += (await changing).ended or 0
            for answer in answers:
                if "access_token" in answer.json():
                    assert [] == claims(answer.json()["access_token"])["roles"]
            live = await parts.database.fetch_one(
                "SELECT COUNT(*) AS n FROM sessions JOIN users ON users.id = user_id"
                " WHERE username = $1 AND ended_at IS NULL",
                bob.username,
            )
            assert {"n": 0} == dict(live or {})
        assert ended >= 36


ROLES = st.text("ab_.:-9%!'", min_size=1, max_size=4).map(lambda text: text.translate({ord(c): "x" for c in "%!'"}))
"""Short and similar roles with every special character that a role may have."""


@given(
    required=st.lists(ROLES, min_size=1, max_size=3, unique=True) | st.just(["everyone"]),
    roles=st.lists(ROLES, max_size=3, unique=True),
)
@example(required=["a_b"], roles=["axb"])
@example(required=["ab"], roles=["abx", "xab"])
def test_sql_and_python_agree_on_the_users_that_the_policy_names(required: list[str], roles: list[str]) -> None:
    """A role is a whole word, neither a part of one nor a pattern."""
    policy = MfaPolicy(tuple(required))
    assert policy.applies_to(roles) == (not satisfies(policy, roles))


def satisfies(policy: MfaPolicy, roles: list[str]) -> bool:
    import sqlite3

    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE users (id TEXT, roles TEXT)")
        connection.execute("CREATE TABLE sessions (user_id TEXT, acr TEXT)")
        connection.execute("INSERT INTO users VALUES ('1', ?)", (" ".join(roles),))
        connection.execute("INSERT INTO sessions VALUES ('1', 'aal1')")
        (found,) = connection.execute(f"SELECT COUNT(*) FROM sessions WHERE {policy.condition}").fetchone()
    connection.close()
    return bool(found)


@pytest.mark.parametrize("role", ["x' OR '1'='1", "%", "two words", "everyone"])
def test_an_invalid_role_does_not_reach_sql(role: str) -> None:
    """The policy's roles stand in SQL, so they must have the form of roles."""
    with pytest.raises(ValueError, match=r"needs 1 to 64 characters|stands for all users"):
        MfaPolicy((role, "admin"))


# --- attempts to bypass the policy ---


async def test_no_other_flow_bypasses_the_policy(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """A device without second factor, an enrolment begun before and an enrolment undone need a second factor."""
    async with open_client({**world, **DEVICES, "require_mfa": "admin"}) as client:
        bob = await sign_up(client, clock, "bob", mfa=False)
        administration = client.parts.administration
        before = (await log_in(bob, remember_device=True)).json()
        begun = (await send(client, "POST", "/enable-mfa", {"password": PASSWORD}, before["access_token"])).json()
        await administration.set_roles("bob", add="admin", by=OPERATOR)

        # A known device replaces a second factor only if one was proved on it.
        assert (await log_in(bob, device_token=before["device_token"])).json()["mfa_required"]

        # The enrolment that began before the role was added still accepts its code.
        assert 401 == (await send(client, "GET", "/me", {}, begun["mfa_token"])).status_code
        bob.secret = secret_in(begun["provisioning_uri"])
        assert 401 == (await bob.give_code(bob.wrong_code(), begun["mfa_token"])).status_code
        enrolled = (await bob.give_code(mfa_token=begun["mfa_token"])).json()
        assert "aal2" == claims(enrolled["access_token"])["acr"]
        assert (await log_in(bob, device_token=before["device_token"])).json()["mfa_required"]

        # A device on which one was proved replaces it until the second factor is removed, and no longer.
        clock.next_step()
        device = await remember(bob)
        of_device = (await log_in(bob, device_token=device)).json()
        assert "aal1" == claims(of_device["access_token"])["acr"]
        clock.next_step()
        assert 200 == (await bob.disable()).status_code
        for token in (of_device, enrolled):
            assert 400 == (await refresh(client, token["refresh_token"])).status_code
            assert 401 == await verify(client, token["access_token"])
        again = (await log_in(bob, device_token=device)).json()
        assert (True, False) == (again["mfa_required"], again["mfa_confirmed"])


async def test_a_refused_session_cannot_be_stepped_up(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """A device's session stepped up while devices were accepted satisfies any policy; its other session does not."""
    async with open_client({**world, **DEVICES, "require_mfa": "everyone"}) as client:
        alice = await sign_up(client, clock, "alice")
        await alice.confirm()
        clock.next_step()
        device = await remember(alice)
        tokens = [(await log_in(alice, device_token=device)).json() for _ in range(2)]
        step_up = (await send(client, "POST", "/step-up", {}, tokens[0]["access_token"])).json()["mfa_token"]
        clock.next_step()
        assert 200 == (await alice.give_code(mfa_token=step_up)).status_code
        async with open_client({**world, "require_mfa": "everyone"}) as stricter:
            assert 401 == (await send(stricter, "POST", "/step-up", {}, tokens[1]["access_token"])).status_code
            stepped_up, refused = [await refresh(stricter, pair["refresh_token"]) for pair in tokens]
            assert ("aal2", 400) == (claims(stepped_up.json()["access_token"])["acr"], refused.status_code)


@pytest.mark.parametrize("policy", [{}, {"require_mfa": "staff"}, {**DEVICES, "require_mfa": "everyone"}])
async def test_a_refresh_is_one_statement_with_a_policy_and_without(
    world: dict[str, Any], clock: MovableClock, policy: dict[str, Any]
) -> None:
    """The policy is part of the statement that rotates the token."""
    settings = Settings(**world, **policy)
    if settings.database_url is None:
        make_schema(settings)
    async with serving(settings, clock) as client:
        alice = await sign_up(client, clock, "alice")
        token = (await alice.confirm()).json()["refresh_token"]
        with pytest.MonkeyPatch.context() as patch:
            calls = record_calls(client.parts.database, patch)
            assert 200 == (await refresh(client, token)).status_code
        assert ["write_one"] == calls


def record_calls(database: Database, patch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the name of each method of the database that is called from now on."""
    calls: list[str] = []

    def recorded(name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(database, name)

        def record(*arguments: object) -> Any:
            calls.append(name)
            return method(*arguments)

        return record

    for name in ("begin", "fetch_one", "fetch_all", "write_one"):
        patch.setattr(database, name, recorded(name))
    return calls
