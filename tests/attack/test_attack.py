"""`keyturn attack`: a healthy target holds, and every attack detects the target that has its defect.

The broken targets are Keyturn behind a proxy application, which sees each request and each answer and changes them as
a service with that defect would.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.types import Receive, Scope, Send

from service.app import create_app
from service.attack import FAMILIES, forged
from service.attack.enumeration import normal_deviate, welch
from service.attack.people import WRONG
from service.attack.report import Finding, Report
from service.attack.target import METADATA, Budget, open_target
from service.cli.attack import FAMILIES as OFFERED
from service.errors import ConfigurationError
from service.settings import Settings
from service.storage.migrations import migrate
from service.users.passwords import CHEAPEST
from tests.harness.attacks import attacks_of, names, run_attack
from tests.harness.commands import MISUSED, run
from tests.harness.databases import PATIENT, PATIENT_SECONDS
from tests.harness.ports import free_port
from tests.harness.servers import REPOSITORY, keyturn, make_schema
from tests.harness.spoiled import (
    Forward,
    ForwardedRequest,
    ForwardedResponse,
    Tamper,
    TamperingApp,
    combined,
    honest,
    listening,
)

pytestmark = pytest.mark.heavy

HELD, BROKEN, INCOMPLETE = 0, 1, 3
PROOF = "an unguessable proof of this test"


def make_service(data_dir: Path) -> TamperingApp:
    settings = Settings(
        data_dir=data_dir,
        limit_signup=None,
        limit_login_address=None,
        recovery_delay="72h",
    )  # fmt: skip
    migrate(settings.resolved_database_url)
    return TamperingApp(create_app(settings, hash_cost=CHEAPEST, timeouts=PATIENT))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TamperingApp]:
    spoiled = make_service(tmp_path_factory.mktemp("attacked"))
    with listening(spoiled) as spoiled.url:
        yield spoiled


@pytest.fixture
async def attacked(service: TamperingApp) -> AsyncIterator[Callable[..., Awaitable[Report]]]:
    """A function that attacks the service with one family, under one defect."""

    async def attacking(family: str, by: Tamper = honest, **options: Any) -> Report:
        service.by = by
        return await run_attack(service.url, family, **options)

    yield attacking
    service.by = honest


Attacked = Callable[..., Awaitable[Report]]


# Replay.


@dataclass
class AcceptsReplays:
    """A request that succeeded once succeeds again."""

    doors: tuple[str, ...] = ("otp", "token", "recovery_code", "mfa_token")
    opened: dict[str, ForwardedResponse] = field(default_factory=dict)

    async def __call__(self, request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        given = await forward(request)
        if request.path not in {"/login-2fa", "/disable-mfa"}:
            return given
        if given.status != 200:
            await asyncio.sleep(0.05)  # of concurrent requests one must be the first to succeed
        for key in (one.upper().replace(" ", "-") for one in request.given(*self.doors)):
            if given.status == 200:
                self.opened[key] = given
            elif key in self.opened:
                return self.opened[key]
        return given


async def test_replay_is_detected(attacked: Attacked) -> None:
    """Every attack of the family detects it."""
    report = await attacked("replay", AcceptsReplays())
    assert BROKEN == report.status
    assert attacks_of("replay") - {"A pending token from before a new password"} == names(report, "broken"), (
        report.text()
    )


async def test_a_failure_of_concurrent_requests_is_detected(attacked: Attacked) -> None:
    """Also where one request with the code is accepted."""

    async def fails_if_used(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        given = await forward(request)
        is_refused = request.path in {"/login-2fa", "/disable-mfa"} and given.status != 200
        return ForwardedResponse.of(500, {}) if is_refused else given

    report = await attacked("replay", fails_if_used)
    assert "One code for a login and for /disable-mfa at once" in names(report, "broken"), report.text()


async def test_a_pending_token_that_outlives_its_password_is_detected(attacked: Attacked) -> None:
    """The service returns the answer to another user's login for it."""
    earlier: list[ForwardedResponse] = []

    async def ignores_the_credential_version(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        given = await forward(request)
        if request.path == "/login-2fa" and given.status == 200:
            earlier.append(given)
        return earlier[0] if given.members.get("code") == "invalid_token" and earlier else given

    assert "A pending token from before a new password" in names(
        await attacked("replay", ignores_the_credential_version), "broken"
    )


# Confusion.

ADMITTED = ForwardedResponse.of(200, {"access_token": "a", "refresh_token": "b"})


def header_of(token: str) -> dict[str, Any]:
    """Return the unverified header of a token."""
    try:
        value = json.loads(forged.decode(token.partition(".")[0]))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


async def needs_no_code(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    return (
        ForwardedResponse.of(200, {**given.members, "access_token": "a"}) if given.members.get("mfa_token") else given
    )


async def accepts_pending_tokens(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    """Accept them, as a verifier with one key for every kind of token would."""
    given = await forward(request)
    is_pending = header_of(request.bearer).get("typ") == "mfa+jwt"
    return (
        ForwardedResponse.of(200, {}) if is_pending and given.status == 401 and request.path == "/events" else given
    )


async def finds_a_conflict_first(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    """Report a conflict of the account after accepting the token."""
    given = await forward(request)
    return (
        ForwardedResponse.of(409, {"code": "mfa_already_enabled"})
        if (request.path, given.status) == ("/step-up", 401)
        else given
    )


async def logs_in_by_access_token(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    presented = [*request.given("mfa_token"), request.bearer]
    is_access = any(header_of(token).get("typ") == "at+jwt" for token in presented)
    return ADMITTED if request.path == "/login-2fa" and is_access else given


async def refreshes_by_access_token(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    return ADMITTED if request.path == "/token" and b"refresh_token=eyJ" in request.body else given


async def grants_by_password(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    """Implement the grant that RFC 9700 forbids, because it omits the second factor."""
    given = await forward(request)
    return ADMITTED if request.path == "/token" and b"grant_type=password" in request.body else given


async def takes_tokens_from_the_query(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    name, _, token = request.query.partition("=")
    if name == "access_token":
        return await forward(replace(request, headers=(*request.headers, ("authorization", f"Bearer {token}"))))
    return await forward(request)


async def accepts_the_last_header(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    last = [pair for pair in request.headers if pair[0] == "authorization"][-1:]
    others = [pair for pair in request.headers if pair[0] != "authorization"]
    return await forward(replace(request, headers=(*others, *last)))


async def ends_any_session(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    is_theirs = request.method == "DELETE" and request.path.startswith("/sessions/") and given.status == 404
    return ForwardedResponse.of(204) if is_theirs else given


async def requires_no_level(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    return await forward(replace(request, query="") if request.path == "/verify" else request)


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (needs_no_code, "The password alone"),
        (accepts_pending_tokens, "Other tokens as access tokens"),
        (finds_a_conflict_first, "Other tokens as access tokens"),
        (logs_in_by_access_token, "Other tokens as pending tokens"),
        (refreshes_by_access_token, "Other tokens at /token, /revoke, /introspect"),
        (grants_by_password, "Other tokens at /token, /revoke, /introspect"),
        (takes_tokens_from_the_query, "A valid token in a wrong place"),
        (accepts_the_last_header, "A valid token in a wrong place"),
        (ends_any_session, "Objects of another user"),
        (requires_no_level, "A session without a required second factor"),
    ],
)
async def test_confusion_is_detected(attacked: Attacked, by: Tamper, expected: str) -> None:
    """Only its own attack detects each defect; all other attacks hold."""
    report = await attacked("confusion", by)
    assert {expected} == names(report, "broken"), report.text()
    assert attacks_of("confusion") - {expected} == names(report, "held")


# Forgery.


@dataclass
class AcceptsBy:
    """A second verifier with a flaw, which decides where the first one refuses."""

    flaw: Callable[[str], bool]
    at: tuple[str, ...] = ("/verify", "/me")

    async def __call__(self, request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        given = await forward(request)
        if request.path not in self.at or given.status < 400:
            return given
        tokens = [request.bearer, *request.given("mfa_token")]
        return ForwardedResponse.of(200, {}) if any(token and self.flaw(token) for token in tokens) else given


def takes_none(token: str) -> bool:
    return str(header_of(token).get("alg", "")).lower() == "none"


@dataclass
class TakesPublicKeys:
    """One verification call for every algorithm, with the PEM of the public key as its key."""

    pem: bytes = b""

    def __call__(self, token: str) -> bool:
        signed, _, signature = token.rpartition(".")
        digest = hmac.digest(self.pem, signed.encode("utf-8", "replace"), "sha384")
        return forged.encode(digest) == signature


def takes_the_tokens_own_key(token: str) -> bool:
    head = header_of(token)
    return "jwk" in head and head.get("kid") == "mine"


def takes_zeros(token: str) -> bool:
    """Accept a signature of zeros (CVE-2022-21449)."""
    signature = token.rpartition(".")[2]
    return len(signature) == 86 and set(signature) == {"A"}


@dataclass
class RemembersSignatures:
    """A cache of verified tokens with a wrong key."""

    seen: set[str] = field(default_factory=set)

    async def __call__(self, request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        given = await forward(request)
        signature = request.bearer.rpartition(".")[2]
        if request.path == "/verify" and given.status == 204:
            self.seen.add(signature)
        elif request.path == "/verify" and signature in self.seen and request.bearer.count(".") == 2:
            is_read = isinstance(header_of(request.bearer).get("crit"), list)
            return ForwardedResponse.of(204) if is_read else given
        return given


async def fails_on_headers(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    """Read `header["alg"]` of a header that is no object."""
    with contextlib.suppress(ValueError):
        if request.bearer and not isinstance(json.loads(forged.decode(request.bearer.partition(".")[0])), dict):
            return ForwardedResponse.of(500)
    return await forward(request)


async def reads_half_of_a_refresh_token(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    """Skip the comparison of the MAC."""
    given = await forward(request)
    is_like_one = request.path == "/token" and b"refresh_token=ktr_" in request.body
    return ADMITTED if is_like_one and given.status == 400 else given


async def ends_sessions_by_forged_tokens(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    if request.path == "/me" and ends_sessions_by_forged_tokens.__dict__.get("ended"):
        return ForwardedResponse.of(401)
    ends_sessions_by_forged_tokens.__dict__["ended"] = request.path == "/revoke"
    return await forward(request)


async def fails_at_revocation(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    """Fail at a token of another form."""
    is_malformed = request.path == "/revoke" and b"token=ktr_" not in request.body
    return ForwardedResponse.of(500) if is_malformed else await forward(request)


@dataclass
class RefusesCodesAfterForgedTokens:
    """A code that came with a token it refused is used up."""

    used: set[str] = field(default_factory=set)

    async def __call__(self, request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        if request.path != "/login-2fa" or not self.used.isdisjoint(request.given("otp")):
            return ForwardedResponse.of(401) if request.path == "/login-2fa" else await forward(request)
        given = await forward(request)
        if given.status >= 400:
            self.used.update(request.given("otp"))
        return given


@dataclass
class SlowClock:
    """A service in whose answers a minute passes after the first forged pending token."""

    codes: list[str] = field(default_factory=list)

    async def __call__(self, request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        given = await forward(request)
        if request.path == "/login-2fa" and given.status >= 400:
            self.codes += request.given("otp")
        if not self.codes:
            return given
        later = format_datetime(datetime.now(UTC) + timedelta(minutes=1), usegmt=True)
        return replace(given, headers=(*given.headers, ("date", later)))


async def test_each_forged_pending_token_comes_with_a_valid_code(tmp_path: Path) -> None:
    """On a slow service a code expires between two of them: the refusal of the others would then prove nothing."""
    slow = SlowClock()
    spoiled = make_service(tmp_path)
    spoiled.by = slow
    with listening(spoiled, date_header=False) as url:
        await run_attack(url, "forgery")
    first, *others = slow.codes
    assert len(others) > 100
    assert first not in others


async def test_forgery_is_detected(attacked: Attacked, service: TamperingApp) -> None:
    """The attack named for a flaw detects it; all other attacks hold."""
    (jwk,) = httpx2.get(f"{service.url}/.well-known/jwks.json", timeout=PATIENT_SECONDS).json()["keys"]
    public = TakesPublicKeys(jwt.PyJWK(jwk).key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    flaws: list[tuple[list[Tamper], set[str]]] = [
        (
            [AcceptsBy(takes_none), reads_half_of_a_refresh_token],
            {
                "alg none, unknown, or missing",
                "Malformed, huge and ambiguous tokens",  # alg occurs twice, once as none
                "Forged refresh tokens",
            },
        ),
        (
            [AcceptsBy(public), RemembersSignatures(), AcceptsBy(takes_none, ("/login-2fa",))],
            {
                "HMAC with a public key as its secret",
                "Other claims, typ, crit under a genuine signature",
                "Forged pending tokens with a valid code",
            },
        ),
        (
            [AcceptsBy(takes_the_tokens_own_key), ends_sessions_by_forged_tokens],
            {"The attacker's own key: jwk, jku, x5u, kid", "Forged refresh tokens"},
        ),
        (
            [AcceptsBy(takes_zeros), fails_on_headers, fails_at_revocation, RefusesCodesAfterForgedTokens()],
            {
                "Signatures of zeros, cut, or stripped",
                "Malformed, huge and ambiguous tokens",
                "Forged pending tokens with a valid code",
                "Forged refresh tokens",
            },
        ),
    ]
    for by, expected in flaws:
        report = await attacked("forgery", combined(*by))
        assert expected == names(report, "broken"), report.text()
        assert attacks_of("forgery") - expected == names(report, "held"), report.text()


# Refresh.


@dataclass
class IssuesSeveralSuccessors:
    """Every refresh gets a successor of its own."""

    count: int = 0

    async def __call__(self, request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        if request.path != "/token":
            return await forward(request)
        given = await forward(replace(request, body=re.sub(rb"\.[0-9]+", b"", request.body)))
        if "refresh_token" not in given.members:
            return given
        self.count += 1
        return ForwardedResponse.of(
            200, {**given.members, "refresh_token": f"{given.members['refresh_token']}.{self.count}"}
        )


@dataclass
class IgnoresReuse:
    """An old refresh token is refused without ending the session."""

    used: list[bytes] = field(default_factory=list)

    async def __call__(self, request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        if request.path != "/token":
            return await forward(request)
        if request.body in self.used[:-1]:
            return ForwardedResponse.of(400, {"error": "invalid_grant"})
        if request.body not in self.used:
            self.used.append(request.body)
        return await forward(request)


async def only_pretends_to_log_out(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    return ForwardedResponse.of(204) if request.path == "/logout" else await forward(request)


@dataclass
class KeepsOldSessions:
    changed: bool = False

    async def __call__(self, request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        given = await forward(request)
        self.changed |= request.path == "/password" and given.status == 204
        return ADMITTED if request.path == "/token" and given.status == 400 and self.changed else given


async def loses_sessions(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    """End the session at the second use of a token, which breaks two browser tabs."""
    given = await forward(request)
    if request.path == "/token" and given.status == 200:
        bearer = ("authorization", f"Bearer {given.members['access_token']}")
        await forward(replace(request, method="POST", path="/logout", headers=(bearer,), body=b""))
    return given


async def takes_the_cookie_of_any_origin(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    return await forward(with_headers(request, origin="http://localhost:8000"))


async def takes_the_cookie_without_the_header(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    return await forward(with_headers(request, **{"keyturn-session": "cookie"}))


async def sets_a_cookie_for_scripts(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    return replace(given, headers=tuple((name, value.replace("; HttpOnly", "")) for name, value in given.headers))


def with_headers(request: ForwardedRequest, **values: str) -> ForwardedRequest:
    """Return the request to /token with these headers in place of its own."""
    if request.path != "/token":
        return request
    kept = (line for line in request.headers if line[0] not in values)
    return replace(request, headers=(*kept, *values.items()))


@pytest.mark.parametrize(
    "by", [takes_the_cookie_of_any_origin, takes_the_cookie_without_the_header, sets_a_cookie_for_scripts]
)
async def test_an_unguarded_cookie_is_detected(attacked: Attacked, by: Tamper) -> None:
    """One attack tries what a page of another origin and a script can do."""
    assert "The refresh cookie of a browser" in names(await attacked("refresh", by), "broken")


async def test_refresh_defects_are_detected(attacked: Attacked) -> None:
    """The attacks named for a defect detect it."""
    race, logout = "One refresh token, many refreshes at once", "Refreshes during a logout"
    cookie = "The refresh cookie of a browser"  # a /logout that does nothing accepts it as well
    flaws: list[tuple[list[Tamper], set[str]]] = [
        ([IssuesSeveralSuccessors(), KeepsOldSessions()], {race, "Sessions from before a new password or factor"}),
        (
            [IgnoresReuse(), only_pretends_to_log_out],
            {"A refresh token of two generations ago", "Tokens of an ended session", logout, cookie},
        ),
    ]
    for by, expected in flaws:
        report = await attacked("refresh", combined(*by))
        assert expected == names(report, "broken"), report.text()
        assert attacks_of("refresh") - expected == names(report, "held"), report.text()
    assert race in names(await attacked("refresh", loses_sessions), "broken")


# Headers.


@pytest.mark.parametrize(("trusted", "expected"), [("0.0.0.0/0", 2), ("127.0.0.0/8", 2), ("127.0.0.1", 0)])
async def test_a_service_that_trusts_every_address_is_detected(tmp_path: Path, trusted: str, expected: int) -> None:
    """Keyturn itself is broken if it trusts the attacker's address; it holds if it trusts a proxy on this machine."""
    settings = Settings(data_dir=tmp_path / "data", trusted_proxies=(trusted,))
    make_schema(settings)
    with listening(create_app(settings, hash_cost=CHEAPEST, timeouts=PATIENT)) as url:
        report = await run_attack(url, "headers", forwarded=True)
    broken = {"Asserted addresses at a login", "Asserted addresses against a rate limit"}
    assert (broken if expected else set()) == names(report, "broken"), report.text()
    assert len(FAMILIES["headers"]) - expected == report.count("held"), report.text()
    assert all("KEYTURN_TRUSTED_PROXIES" in one.said for one in report.findings if one.verdict == "broken")


async def counts_by_a_header(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    is_elsewhere = request.header("cf-connecting-ip") and given.status == 429
    return ForwardedResponse.of(401, {"code": "invalid_credentials"}) if is_elsewhere else given


async def follows_the_host(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given, host = await forward(request), request.header("x-forwarded-host")
    return ForwardedResponse.of(200, {**given.members, "jwks_uri": f"http://{host}/jwks"}) if host else given


async def follows_another_method(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    return await forward(replace(request, method=request.header("x-http-method-override") or request.method))


async def follows_another_path(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    return await forward(replace(request, path=request.header("x-rewrite-url") or request.path))


async def allows_every_origin(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    return replace(given, headers=(*given.headers, ("access-control-allow-origin", request.header("origin"))))


async def allows_any_origin(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    return replace(given, headers=(*given.headers, ("access-control-allow-origin", "*")))


async def echoes_the_request_id(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    return replace(given, headers=(*given.headers, ("x-correlation-id", request.header("x-request-id"))))


async def drops_the_roles(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    return replace(given, headers=tuple(pair for pair in given.headers if pair[0] != "x-auth-roles"))


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (counts_by_a_header, "Asserted addresses against a rate limit"),
        (follows_the_host, "Asserted hosts"),
        (follows_another_method, "Asserted methods and paths"),
        (follows_another_path, "Asserted methods and paths"),
        (allows_every_origin, "Foreign origins and reflected headers"),
        (allows_any_origin, "Foreign origins and reflected headers"),
        (echoes_the_request_id, "Foreign origins and reflected headers"),
        (drops_the_roles, "Foreign origins and reflected headers"),
    ],
)
async def test_trusted_headers_are_detected(attacked: Attacked, by: Tamper, expected: str) -> None:
    """Only its own attack detects each defect; all other attacks hold."""
    report = await attacked("headers", by)
    assert {expected} == names(report, "broken"), report.text()
    assert attacks_of("headers") - {expected} == names(report, "held"), report.text()


# Guessing.


async def compares_every_code(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    is_refused = request.path == "/login-2fa" and given.status in {401, 429}
    return ForwardedResponse.of(401, {"code": "invalid_code"}) if is_refused else given


@dataclass
class TakesAnyCode:
    """Accepts any code after a number of attempts."""

    guesses: int = 0

    async def __call__(self, request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        given = await forward(request)
        self.guesses += request.path == "/login-2fa" and given.status == 401
        return ADMITTED if self.guesses > 5 and request.path == "/login-2fa" else given


async def does_not_wait_after_codes(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    """Compare five codes, and five more with the next pending token."""
    given = await forward(request)
    if request.path == "/login-2fa" and given.status == 429:
        return ADMITTED if request.given("otp") and not request.given("otp")[0].startswith("100") else given
    return given


async def checks_every_password(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    return (
        ForwardedResponse.of(401, {"code": "invalid_credentials"})
        if given.status == 429 and request.path == "/login"
        else given
    )


async def counts_capitals_apart(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    is_other = given.status == 429 and str(request.members.get("username")).isupper()
    return ForwardedResponse.of(401, {"code": "invalid_credentials"}) if is_other else given


async def test_guessing_is_detected(attacked: Attacked) -> None:
    """The attacks that these names describe detect a missing limit of guesses."""
    codes = {
        "Codes under one pending token, at once",
        "Codes under many pending tokens and elsewhere",
        "Recovery codes",
    }
    flaws: list[tuple[Tamper, set[str]]] = [
        (compares_every_code, codes),
        (does_not_wait_after_codes, {"Codes under one pending token, at once"}),
        (checks_every_password, {"Passwords of one username"}),
        (counts_capitals_apart, {"A username that must wait, at other routes"}),
    ]
    for by, expected in flaws:
        report = await attacked("guessing", by)
        assert expected == names(report, "broken"), report.text()
        if by is checks_every_password:
            assert {"A username that must wait, at other routes"} == names(report, "not tried")
    assert codes & names(await attacked("guessing", TakesAnyCode()), "broken")


# Enumeration.

EXTRA_SECONDS = 0.3
"""How much longer the answers of one kind take. The other tests of the machine may delay an answer by 0.1 s."""


@dataclass
class TracksAccounts:
    """Records which usernames have an account, and answers the others differently."""

    differs: Callable[[ForwardedRequest, ForwardedResponse, bool], Awaitable[ForwardedResponse]]
    known: set[str] = field(default_factory=set)

    async def __call__(self, request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        given = await forward(request)
        if request.path == "/signup":
            self.known |= set(request.given("username"))
        if request.path in {"/login", "/disable-mfa", "/recovery"} and given.status != 200:
            return await self.differs(request, given, request.members.get("username") in self.known)
        return given


async def reveals_it_in_the_body(
    _asked: ForwardedRequest, given: ForwardedResponse, is_known: bool
) -> ForwardedResponse:
    return given if is_known else ForwardedResponse.of(401, {"code": "unknown_user"})


async def reveals_it_in_a_header(
    _asked: ForwardedRequest, given: ForwardedResponse, is_known: bool
) -> ForwardedResponse:
    return given if is_known else replace(given, headers=(*given.headers, ("x-cache", "miss")))


async def reveals_it_in_the_value_of_a_header(
    _asked: ForwardedRequest, given: ForwardedResponse, is_known: bool
) -> ForwardedResponse:
    others = tuple(header for header in given.headers if header[0].lower() != "content-type")
    return given if is_known else replace(given, headers=(*others, ("content-type", "application/json")))


async def reveals_it_by_a_wait(
    _asked: ForwardedRequest, given: ForwardedResponse, is_known: bool
) -> ForwardedResponse:
    return given if is_known else replace(given, headers=(*given.headers, ("retry-after", "12")))


async def lifts_waits_of_unknown_users(
    request: ForwardedRequest, given: ForwardedResponse, is_known: bool
) -> ForwardedResponse:
    return (
        ForwardedResponse.of(401, {"code": "invalid_credentials"}) if not is_known and given.status == 429 else given
    )


async def hashes_for_accounts_only(
    request: ForwardedRequest, given: ForwardedResponse, is_known: bool
) -> ForwardedResponse:
    if is_known and request.path == "/login":
        await asyncio.sleep(EXTRA_SECONDS)
    return given


async def takes_longer_for_unknown_users(
    request: ForwardedRequest, given: ForwardedResponse, is_known: bool
) -> ForwardedResponse:
    if not is_known and request.path == "/disable-mfa":
        await asyncio.sleep(EXTRA_SECONDS)
    return given


async def test_enumeration_is_detected(attacked: Attacked) -> None:
    """The body, a header, the wait or the time reveals the username."""
    for differs, expected in (
        (reveals_it_in_the_body, "Bodies and headers of refusals"),
        (reveals_it_in_a_header, "Bodies and headers of refusals"),
        (reveals_it_in_the_value_of_a_header, "Bodies and headers of refusals"),
        (reveals_it_by_a_wait, "Bodies and headers of refusals"),
        (lifts_waits_of_unknown_users, "Waits after wrong passwords"),
        (hashes_for_accounts_only, "Durations of /login"),
        (takes_longer_for_unknown_users, "Durations of /disable-mfa"),
    ):
        report = await attacked("enumeration", TracksAccounts(differs))
        assert {expected} <= names(report, "broken"), report.text()
        if differs is not reveals_it_in_the_body:  # it hides the limit too
            assert attacks_of("enumeration") - {expected} == names(report, "held"), report.text()


async def test_durations_of_too_few_logins_are_not_compared(attacked: Attacked) -> None:
    """If a limit refuses first, the durations are not tried, and the report names the limit."""

    async def limited(_asked: ForwardedRequest, given: ForwardedResponse, is_known: bool) -> ForwardedResponse:
        return given if is_known else ForwardedResponse.of(429, {"code": "too_many_attempts"})

    report = await attacked("enumeration", TracksAccounts(limited))
    assert not names(report, "broken"), report.text()
    assert {"Durations of /login", "Durations of /disable-mfa"} <= names(report, "not tried")
    assert all("KEYTURN_LIMIT_LOGIN_ADDRESS" in one.said for one in report.findings if one.verdict == "not tried")


@dataclass
class LimitsFailures:
    """Refuses wrong passwords after some from one address, or of one username."""

    of_address: int = 1000
    of_username: int = 1000
    failed: list[Any] = field(default_factory=list)

    async def __call__(self, request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        given = await forward(request)
        if given.status != 401 or request.members.get("password") != WRONG:
            return given
        username = request.members.get("username")
        if len(self.failed) >= self.of_address or self.failed.count(username) >= self.of_username:
            return ForwardedResponse.of(429, {"code": "too_many_attempts"})
        self.failed.append(username)
        return given


async def test_a_limit_of_the_address_is_not_a_difference(attacked: Attacked) -> None:
    """If it refuses the unknown username before that must wait, the waits are not tried."""
    report = await attacked("enumeration", LimitsFailures(of_address=14))
    assert not names(report, "broken"), report.text()
    assert "Waits after wrong passwords" in names(report, "not tried"), report.text()


async def test_a_limit_of_the_username_is_named(attacked: Attacked) -> None:
    """If a username may fail only once, the report names that setting too."""
    report = await attacked("enumeration", LimitsFailures(of_username=1))
    assert {"Bodies and headers of refusals", "Durations of /login"} == names(report, "not tried"), report.text()
    assert all("(KEYTURN_LIMIT_LOGIN)" in one.said for one in report.findings if one.verdict == "not tried")


def test_welch() -> None:
    """The t of two samples of unequal variance equals that of a published example."""
    one = [27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1, 21.9, 22.6, 23.1, 19.6, 19.0, 21.7, 21.4]
    other = [27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0, 24.8, 20.2, 21.9, 22.1, 22.9, 30.0, 23.9]
    t, freedom = welch(one, other)
    assert pytest.approx(-2.83, abs=0.02) == t
    assert pytest.approx(27.9, abs=0.3) == freedom
    assert (0, 2) == welch([1.0, 1.0], [1.0, 1.0])


@pytest.mark.parametrize(
    ("t", "freedom", "expected"), [(2.571, 5, 1.96), (2.228, 10, 1.96), (4.587, 10, 3.29), (4.5, 1e6, 4.5)]
)
def test_few_samples_are_less_significant(t: float, freedom: float, expected: float) -> None:
    """The expected values are from the tables of Student's t and of the normal distribution."""
    assert pytest.approx(expected, abs=0.08) == normal_deviate(t, freedom)


# Malformed input.


async def fails_on_json(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    if request.method == "POST" and request.header("content-type") == "application/json" and request.path == "/login":
        try:
            json.loads(request.body)
        except (ValueError, RecursionError):
            return ForwardedResponse.of(500)
    return await forward(request)


async def repeats_the_value(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    is_field = given.members.get("code") == "invalid_request"
    return (
        ForwardedResponse.of(422, {**given.members, "input": request.body.decode("utf-8", "replace")})
        if is_field
        else given
    )


async def reads_any_media_type(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    others = tuple(pair for pair in request.headers if pair[0] != "content-type")
    is_json = request.body.startswith(b"{") and request.path not in {"/token", "/revoke", "/introspect"}
    return await forward(
        replace(request, headers=(*others, ("content-type", "application/json"))) if is_json else request
    )


async def takes_any_size(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    return ForwardedResponse.of(200, {}) if given.status == 413 and request.path == "/login" else given


async def fails_on_paths(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    return ForwardedResponse.of(500) if "\0" in request.path else await forward(request)


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (fails_on_json, "Bodies that are not a JSON object"),
        (repeats_the_value, "Fields of another type or form"),
        (reads_any_media_type, "Other media types and malformed forms"),
        (takes_any_size, "Bodies, headers and paths of up to 5 MB"),
        (fails_on_paths, "Paths and methods"),
    ],
)
async def test_accepted_malformed_input_is_detected(attacked: Attacked, by: Tamper, expected: str) -> None:
    """Only its own attack detects each defect; all other attacks hold."""
    report = await attacked("malformed", by)
    assert {expected} == names(report, "broken"), report.text()
    assert attacks_of("malformed") - {expected} == names(report, "held"), report.text()


# Slow clients, and a minimal server that reads a socket in a loop.


class NaiveServer:
    """Treats every text up to an empty line as a request, one after the other, and waits without a limit."""

    KEYS = json.dumps({"keys": [], "padding": "x" * 20_000}).encode()

    def __init__(self, *, connections: int = 10_000) -> None:
        self._seats = asyncio.Semaphore(connections)
        self._answering = asyncio.Lock()
        self.talks: set[asyncio.Task[None]] = set()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.talks.add(task)
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError, asyncio.CancelledError):
                async with self._seats:
                    await self._answer(reader, writer)
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            status, body = (b"200 OK", self.KEYS) if b"/.well-known/" in head else (b"400 Bad", b"{}")
            lines = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
            async with self._answering:
                writer.write(lines + body)
                await writer.drain()
            if b"Connection: close" in head:
                writer.write_eof()


@contextlib.asynccontextmanager
async def naive(**options: int) -> AsyncIterator[str]:
    service = NaiveServer(**options)
    server = await asyncio.start_server(service.talk, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in service.talks:
            task.cancel()
        await asyncio.gather(*service.talks, return_exceptions=True)


async def test_a_server_without_timeouts_is_detected() -> None:
    """Each kind of slow client detects it; while one client does not read, all clients wait."""
    async with naive() as url:
        report = await run_attack(url, "slow", patience=2)
    slow, unread, kinds = report.findings
    assert ("held", "broken", "broken") == (slow.verdict, unread.verdict, kinds.verdict), report.text()
    assert "silence, a head, byte by byte, endless headers, a body, byte by byte" in kinds.said


async def test_a_server_with_few_connections_is_detected() -> None:
    """Many slow clients take all of them."""
    async with naive(connections=20) as url:
        report = await run_attack(url, "slow", patience=1, seconds=20)
    assert "Many slow clients" in names(report, "broken"), report.text()


async def test_request_smuggling_is_detected() -> None:
    """The server treats the content of a body as a request."""
    async with naive() as url:
        report = await run_attack(url, "malformed")
    assert "Ambiguous boundaries between requests" in names(report, "broken"), report.text()


@pytest.mark.alone  # it compares durations
def test_a_healthy_deployment_holds(tmp_path: Path) -> None:
    """With default settings and every limit on, everything is tried and holds; no report contains a secret."""
    file = tmp_path / "report.json"
    with keyturn({"KEYTURN_DATA_DIR": str(tmp_path / "data"), "KEYTURN_RECOVERY_DELAY": "72h"}) as served:
        with ThreadPoolExecutor(1) as meanwhile:
            slow = meanwhile.submit(run, "attack", served.url, "--only", "slow", "--patience", "15")
            families = [f"--only={family}" for family in FAMILIES if family != "slow"]
            mail = str(tmp_path / "data" / "mail")
            output = run("attack", served.url, *families, "--mail", mail, "--json", str(file))
            assert (HELD, len(FAMILIES["slow"])) == (slow.result().status, slow.result().out.count("  held  "))
        document = json.loads(file.read_text())
        assert HELD == output.status, output.out
        assert {"held"} == {attack["verdict"] for attack in document["attacks"]}
        every = {(family, one.name) for family, attacks in FAMILIES.items() for one in attacks if family != "slow"}
        assert every == {(attack["family"], attack["attack"]) for attack in document["attacks"]}
        assert "malformed: Paths and methods" in output.err
        assert "eyJ" not in output.out + output.err + file.read_text()
        assert not re.search("kt[rl]_", output.out + output.err + file.read_text())
        people = run("users", "list", environment={"KEYTURN_DATA_DIR": str(tmp_path / "data")})
        assert document["left_behind"][0].split()[2] == str(people.out.count("attack-"))
        guide = (REPOSITORY / "docs/guides/attack-your-deployment.md").read_text("utf-8")
        assert f"and {people.out.count('attack-')} with" in guide
        again = run("attack", served.url, "--only", "replay")
    assert INCOMPLETE == again.status, "the limit of accounts is reached, so the run is incomplete"


# The target, the limits of a run, and the report.


def own_address() -> str:
    """Return an address of this machine that is not loopback."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent: the system selects the source address
        address = str(probe.getsockname()[0])
        if not address.startswith("127."):
            return address
    pytest.skip("this machine has only a loopback address")


@dataclass
class RemoteService:
    """A service that is not on loopback, and records the requests."""

    given: ForwardedResponse
    request: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        self.request.append(scope["path"])
        raw = [(name.encode(), value.encode()) for name, value in self.given.headers]
        await send({"type": "http.response.start", "status": self.given.status, "headers": raw})
        await send({"type": "http.response.body", "body": self.given.body})


@pytest.mark.parametrize(
    "given",
    [
        ForwardedResponse.of(200, {"issuer": "x"}),
        ForwardedResponse.of(200, {"keyturn_attack_proof": PROOF}),
        ForwardedResponse.of(200, {"keyturn_attack_proof": [hashlib.sha256(PROOF.encode()).hexdigest()]}),
        ForwardedResponse(302, (("location", f"http://127.0.0.1:9{METADATA}"),)),
        ForwardedResponse(200, (), b"no JSON"),
    ],
)
async def test_a_target_without_the_proof_is_not_attacked(given: ForwardedResponse) -> None:
    """If it is not on loopback, only its metadata is requested, and no redirect is followed."""
    service = RemoteService(given)
    with listening(service, host=own_address()) as url:
        with pytest.raises(ConfigurationError, match="is not a loopback address"):
            await run_attack(url, proof=None)
        assert [] == service.request
        with pytest.raises(ConfigurationError, match="32 characters"):
            await run_attack(url, proof="short")
        with pytest.raises(ConfigurationError, match="control is not proved"):
            await run_attack(url, proof=PROOF)
    assert [METADATA] == service.request


async def test_a_url_names_only_a_target(service: TamperingApp) -> None:
    """It has an HTTP scheme and a host, and nothing that could hide another host."""
    port = service.url.rpartition(":")[2]
    wrong = ["ftp://localhost", "http://", "localhost", f"http://localhost@127.0.0.1:{port}", f"{service.url}?a=b"]
    for url in [*wrong, f"{service.url}#a", "http://localhost:99999", "http://nowhere.invalid", "http://127.0.0.1:9"]:
        with pytest.raises(ConfigurationError):
            await run_attack(url)


def test_an_operator_who_proves_control_can_attack_remotely(tmp_path: Path) -> None:
    """The proof is in a file or in the variable of the service; the output never contains it."""
    (tmp_path / "proof").write_text(PROOF + "\n")
    served = {"KEYTURN_DATA_DIR": str(tmp_path / "data"), "KEYTURN_HOST": "0.0.0.0", "KEYTURN_ATTACK_PROOF": PROOF}  # noqa: S104
    with keyturn(served) as running:
        url = running.url.replace("127.0.0.1", own_address())
        arguments = ("attack", url, "--only", "replay", "--budget-requests", "8")
        assert MISUSED == run(*arguments).status
        by_file = run(*arguments, "--proof", str(tmp_path / "proof"))
        by_variable = run(*arguments, environment={"KEYTURN_ATTACK_PROOF": PROOF})
    for output in (by_file, by_variable):
        assert output.status in {HELD, INCOMPLETE}, output
        assert "(by proof)" in output.out
        assert PROOF not in output.out + output.err


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://[::1", "not valid: Invalid IPv6 URL"),
        ("http://127.0.0.1:99999", "not valid: Port out of range"),
        ("http://127.0.0.1:none", "not valid: Port could not be cast"),
        ("ftp://127.0.0.1", "must be http"),
        ("http://nowhere.invalid", "nowhere.invalid does not exist"),
        (f"http://{'a' * 70}.invalid", "does not exist"),
    ],
)
async def test_an_invalid_target_is_one_sentence(url: str, said: str) -> None:
    """It names the part of the URL that is wrong."""
    with pytest.raises(ConfigurationError, match=said):
        await run_attack(url)


async def test_requests_without_a_reader_are_charged(service: TamperingApp) -> None:
    """All requests of a connection count, also of one that reads no answer."""
    few = await run_attack(service.url, "slow", requests=600)
    assert "A client that does not read" in names(few, "not tried")
    assert few.requests <= 600


async def test_a_run_keeps_its_budgets(service: TamperingApp) -> None:
    """Attacks that they do not allow are not tried, and the run is reported as incomplete."""
    few = await run_attack(service.url, "replay", requests=40)
    assert INCOMPLETE == few.status
    assert any("--budget-requests" in finding.said for finding in few.findings)
    assert few.requests <= 40 + 16 * 7
    started = time.monotonic()
    short = await run_attack(service.url, "replay", seconds=0.2)
    assert time.monotonic() - started < 3
    assert INCOMPLETE == short.status
    assert all("--budget-seconds" in finding.said for finding in short.findings if finding.verdict == "not tried")


async def test_a_service_that_dies_is_broken(attacked: Attacked) -> None:
    """This holds whatever else the attack found; later attacks cannot be tried."""
    dead: list[str] = []

    async def dies(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        if request.path == "/login-2fa" and request.given("recovery_code"):
            dead.append(request.path)
        return ForwardedResponse.of(500) if dead else await forward(request)

    report = await attacked("replay", dies)
    assert {"One recovery code, many requests at once"} == names(report, "broken")
    assert {"the service does not answer"} == {f.said for f in report.findings if f.verdict == "not tried"}


async def test_limits_that_refuse_leave_attacks_untried(attacked: Attacked) -> None:
    """The report says what the operator can do."""

    async def full(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        refused = ForwardedResponse.of(429, {"code": "too_many_attempts"})
        return refused if request.path == "/signup" else await forward(request)

    report = await attacked("replay", full)
    assert (INCOMPLETE, attacks_of("replay")) == (report.status, names(report, "not tried"))
    assert all("KEYTURN_LIMIT_SIGNUP=off" in finding.said for finding in report.findings)
    assert ["No account was made."] == report.left_behind


def test_a_run_that_is_interrupted_reports_what_it_has(service: TamperingApp, tmp_path: Path) -> None:
    """After Ctrl-C the rest is not tried, the accounts are deleted, and the exit status reports an incomplete run."""
    file = tmp_path / "report.json"
    command = [sys.executable, "-m", "service", "attack", service.url, "--only", "replay", "--json", str(file)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    for line in running.stderr:
        if " 2/" in line:
            running.send_signal(signal.SIGINT)
            break
    out, err = running.communicate(timeout=30)
    assert INCOMPLETE == running.returncode, err
    document = json.loads(file.read_text())
    verdicts = [attack["verdict"] for attack in document["attacks"]]
    assert ("held", "not tried") == (verdicts[0], verdicts[-1])
    assert {"stopped by the operator"} == {one["reason"] for one in document["attacks"] if "reason" in one}
    assert "Left behind" in out
    assert "Traceback" not in err


def test_the_report_is_written_as_text_and_as_json() -> None:
    """It is grouped by family, a long sentence is below its attack, and broken outweighs not tried."""
    report = Report("http://localhost:8000", "loopback", datetime(2026, 11, 22, 12, tzinfo=UTC))
    report.findings.append(Finding("replay", "One code", "held", "1 of 32 let in", 40, 0.5))
    assert HELD == report.status
    report.findings.append(Finding("replay", "Two codes", "not tried", "why " * 40))
    assert INCOMPLETE == report.status
    report.findings.append(Finding("slow", "Slow head", "broken", "no answer", 3, 1.0))
    report.requests, report.seconds = 1234, 5.0
    assert BROKEN == report.status
    lines = report.text().splitlines()
    assert all(len(line) <= 118 for line in lines)
    assert ["keyturn attack http://localhost:8000 (loopback)", "", "replay"] == lines[:3]
    assert "  held       One code   1 of 32 let in" == lines[3]
    assert "  BROKEN     Slow head  no answer" in lines
    assert "1 held, 1 broken, 1 not tried: 1,234 requests in 5 s." == lines[-1]
    document = json.loads(report.json())
    assert (1, "2026-11-22T12:00:00+00:00") == (document["exit_status"], document["started_at"])
    assert {"family": "slow", "attack": "Slow head", "verdict": "broken", "evidence": "no answer", "requests": 3,
            "seconds": 1.0} == document["attacks"][2]  # fmt: skip


def test_a_serving_process_does_not_import_the_attack() -> None:
    """Only the command imports it, when it runs."""
    code = "import sys, service.cli, service.app; sys.exit('service.attack' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode
    assert tuple(FAMILIES) == OFFERED


@pytest.mark.parametrize("never_ending", [b"Content-Length: 100\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
async def test_endless_metadata_is_given_up(never_ending: bytes) -> None:
    """The target cannot block the attack by sending slowly, nor by sending without end."""
    sent, is_over = 0, asyncio.Event()

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + never_ending)
        piece = b" " if b"Length" in never_ending else b"10000\r\n" + b" " * 65536 + b"\r\n"
        with contextlib.suppress(OSError):
            while sent < 50_000_000:
                sent += len(piece)
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.1 if len(piece) == 1 else 0)
        with contextlib.suppress(OSError):
            writer.close()
            await writer.wait_closed()
        is_over.set()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(ConfigurationError, match="Nothing answers"):
            await open_target(url, proof=None, budget=Budget(seconds=1, requests=10))
        await asyncio.wait_for(is_over.wait(), 20)
    assert sent < 30_000_000


async def test_a_budget_that_ends_before_an_address_answers_is_reported() -> None:
    """`localhost` has two addresses on many machines; the first one that is tried costs a request."""
    url = f"http://localhost:{free_port()}"
    with pytest.raises(ConfigurationError, match="Nothing answers"):
        await open_target(url, proof=None, budget=Budget(seconds=5, requests=0))
