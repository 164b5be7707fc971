"""`docs/reference/settings.md`: every setting, from the fields of `service/settings.py`."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import SecretStr

from service import values
from service.durations import UNITS, InSeconds, as_text
from service.environment import FROM_FILES
from service.settings import PREFIX, Settings
from service.values import Rate
from tests.reference.markdown import code, page, paragraph, table

KINDS: Mapping[Any, str] = {
    values.Host: "an address or a name of this machine",
    values.Limit: "a rate, or `off`",
    values.Duration: "a duration",
    values.Delay: "a duration, or `off`",
    values.Origins: "origins, comma-separated",
    values.ClaimNames: "names of static claims, comma-separated",
    values.HeaderNames: "names of headers, comma-separated",
    values.MfaRequirement: "`off`, `everyone`, or roles, comma-separated",
    values.Networks: "addresses or networks, comma-separated",
    values.Folder: "a path",
    values.Audience: "one name without spaces",
    values.LanguageTag: "a language tag",
    values.MailSender | None: "an address, or a name and `<address>`",
    values.LeakedPasswords: "`off`, a URL, or a path",
    values.ServiceName: "1 to 64 characters without a colon",
    values.ForwardedHeader: "`x-forwarded-for`, `forwarded`",
    SecretStr | None: "a text (secret)",
    Path | None: "a path",
    values.Folder | None: "a path",
    str | None: "a URL",
    str: "a URL",
    bool | None: "`true`, `false`",
}
"""How a value is written, by the type of the field."""

DERIVED = {
    "audience": "the issuer",
    "docs": "on loopback only",
    "hash_concurrency": "cores / workers",
    "recovery_delay": "`72h` with a webhook, else `off`",
}
"""Defaults that follow from other settings or from the machine."""

NARROWED = {"key_lead": "`330s` to `30d`"}
"""The accepted values of settings that accept fewer values than others of the same type."""


def rows() -> list[tuple[str, str, str, str]]:
    """Name, default, values and meaning of every setting."""
    hints = get_type_hints(Settings, include_extras=True)
    return [
        (
            f"`{PREFIX}{name.upper()}`",
            default_of(name),
            NARROWED.get(name) or _values(hints[name], field),
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]


def default_of(name: str) -> str:
    """The default of a setting, as an operator writes it."""
    field = Settings.model_fields[name]
    value = field.default
    text = f"`{value}`"
    for period in field.metadata:
        if isinstance(period, InSeconds):
            text = f"`{as_text(value * UNITS[period.unit])}`"
    match value:
        case None:
            text = "`off`" if name == "breached_passwords" else "unset"
        case ():
            text = "`off`" if name == "require_mfa" else "none"
        case Rate():
            text = f"`{value.count}/{as_text(value.window)}`"
        case timedelta():
            text = f"`{as_text(int(value.total_seconds()))}`"
        case Path():
            text = f"`./{value}`"
    return DERIVED.get(name, text)


def _values(hint: Any, field: Any) -> str:
    for choice in get_args(hint):
        if get_origin(choice) is Literal:  # a choice, or unset
            return code(get_args(choice))
    if get_origin(hint) is Literal:
        return code(get_args(hint))
    for period in field.metadata:
        if isinstance(period, InSeconds):
            return " to ".join(f"`{as_text(bound * UNITS[period.unit])}`" for bound in (period.least, period.most))
    bounds = {type(bound).__name__: bound for bound in field.metadata}
    if "Ge" in bounds:
        return f"{bounds['Ge'].ge} to {bounds['Le'].le}"
    return KINDS[hint]


def write() -> str:
    """The page as Markdown."""
    return page(
        "Settings",
        paragraph(
            "Settings are environment variables. White space around a value is ignored, and an empty variable "
            "counts as unset. An unknown name that begins with `KEYTURN_` and a combination that is not safe are "
            "refused at the start, with a sentence that names the setting."
        ),
        table(("setting", "default", "values", "meaning"), rows()),
        "## How values are written\n",
        paragraph(
            "A **duration** is a whole number and one of `s`, `m`, `h`, `d`: `72h`. A plain number is in seconds; in "
            "a setting whose name ends with `_DAYS` it is in days, and only whole days are accepted. "
            f"`{PREFIX}RECOVERY_DELAY` refuses a plain number, because `72` would be read as seconds. A **rate** is "
            "a count and a duration: `5/15m` is five in fifteen minutes. `off` switches a rate limit off. A **list** "
            "has commas between its entries."
        ),
        "## Secrets in files\n",
        paragraph(
            "A secret may come as a file whose path is in the setting with the suffix `_FILE`: "
            f"{code(f'{PREFIX}{name.upper()}_FILE' for name in FROM_FILES)}. `{PREFIX}MASTER_SECRETS_FILE` may have "
            "several lines. A setting and its file cannot both be set."
        ),
        "## Variables of libraries\n",
        paragraph(
            "`SSL_CERT_FILE` and `SSL_CERT_DIR` name certificate authorities that replace those of the system. "
            "Keyturn trusts them when it connects to the mail server, to the webhook, to the collector or to a "
            "service of leaked passwords; `keyturn doctor` trusts them too. The `OTEL_` variables of the "
            "OpenTelemetry SDK apply where a collector is set."
        ),
        "## The limits of codes\n",
        paragraph(
            "The limits of verification codes have no setting. A pending token allows five codes of each kind, as "
            "long as the counters of the token are not lost with Redis. Two limits are counted in SQL and cannot be "
            "lost: after five failures in a row an authenticator refuses every code for 30 s, and each further "
            "failure doubles that time, up to an hour; and an authenticator allows fifty failures in 30 days (its "
            "budget). Recovery codes have the same limits."
        ),
        "## What KEYTURN_REQUIRE_MFA does to sessions\n",
        paragraph(
            "A session that was opened without a second factor is refused as soon as the policy names its user: a "
            "refresh gives `invalid_grant`, account endpoints give 401, introspection says `active: false`. "
            "`/verify` gives 401 at once if the token alone shows that the policy names the user, and otherwise "
            "within a second after the session was ended. The user logs in again and enrols."
        ),
        paragraph(
            "The session is ended at its first refused refresh, by a pass over all sessions at the start and every "
            "ten minutes (the log line `sessions.ended_by_policy` has the number), or at once when the user gets a "
            "named role (`keyturn users role add` prints the number). Where `KEYTURN_REMEMBER_DEVICE_DAYS` is not 0, "
            "a known device stands in for the second factor, and its session is not refused. Its access tokens have "
            "the [JWT claim](tokens.md#jwt-claims) `acr` with the value `aal1`: the user gave a password and no "
            "second factor. A relying service that needs a second factor accepts only `aal2`."
        ),
    )
