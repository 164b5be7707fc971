"""`keyturn attack` against links, mailboxes, deletions and the administration: every defect is detected.

The broken targets are Keyturn behind a proxy application, as in `test_attack.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from service.app import create_app
from service.attack.headers import ATTACKER_HOST
from service.attack.report import Report
from service.settings import Settings
from service.users.passwords import CHEAPEST
from tests.harness.attacks import attacks_of, names, run_attack
from tests.harness.databases import PATIENT
from tests.harness.servers import make_schema
from tests.harness.spoiled import (
    Forward,
    ForwardedRequest,
    ForwardedResponse,
    Tamper,
    TamperingApp,
    combined,
    listening,
)

pytestmark = pytest.mark.heavy

ADMITTED = ForwardedResponse.of(200, {"access_token": "a", "refresh_token": "b"})
DONE = ForwardedResponse.of(204)

Attacked = Callable[..., Awaitable[Report]]


@pytest.fixture
def mail(tmp_path: Path) -> Path:
    return tmp_path / "data" / "mail"


@pytest.fixture
def attacked(tmp_path: Path, mail: Path) -> Iterator[Attacked]:
    """A function that attacks a service of its own: the limit of requests for links is used up by one run."""
    opened: list[Any] = []

    async def attacking(family: str, *flaws: Tamper, **settings: Any) -> Report:
        options = Settings(data_dir=tmp_path / "data", limit_signup=None, limit_login_address=None, **settings)
        await asyncio.to_thread(make_schema, options)
        app = TamperingApp(create_app(options, hash_cost=CHEAPEST, timeouts=PATIENT), combined(*flaws))
        opened.append(listening(app))
        return await run_attack(await asyncio.to_thread(opened[-1].__enter__), family, mail=mail)

    yield attacking
    for one in opened:
        one.__exit__(None, None, None)


def check(report: Report, family: str, *broken: str) -> None:
    """Check that these attacks of the family report a defect, and that all others hold."""
    assert set(broken) == names(report, "broken"), report.text()
    assert attacks_of(family) - set(broken) == names(report, "held"), report.text()


# Links.


async def accepts_any_link(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    return DONE if request.path == "/email/confirm" and given.status == 401 else given


async def checks_the_password_first(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    """Report a defect of the new password although the token is invalid."""
    given = await forward(request)
    is_it = request.path == "/password-reset/confirm" and given.status == 401
    return ForwardedResponse.of(422, {"code": "weak_password"}) if is_it else given


async def uses_links_by_get(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    is_it = request.path == "/email/cancel" and request.method in {"GET", "HEAD"} and "token" in request.query
    return DONE if is_it else await forward(request)


@dataclass
class KnowsTheAccounts:
    """Answer a request for a link differently for a username that signed up."""

    known: set[str] = field(default_factory=set)

    async def __call__(self, request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        given = await forward(request)
        if request.path == "/signup" and given.status == 201:
            self.known |= set(request.given("username"))
        is_unknown = request.path == "/password-reset" and request.members.get("username") not in self.known
        return replace(given, headers=(*given.headers, ("x-sent", "no"))) if is_unknown else given


async def shows_the_host(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    host = request.header("x-forwarded-host")
    if request.path == "/password-reset" and host:
        return replace(given, headers=(*given.headers, ("content-location", f"https://{host}/account")))
    return given


async def requests_links_without_end(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    is_it = request.path == "/password-reset" and given.status == 429
    return ForwardedResponse.of(202, {"message": "a"}) if is_it else given


async def needs_no_invitation(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    is_it = request.path == "/signup" and request.given("invitation") and given.status == 403
    return ForwardedResponse.of(201, {}) if is_it else given


async def opens_sign_up_by_an_address(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    is_it = request.path == "/signup" and request.given("email") and given.status == 403
    return ForwardedResponse.of(201, {}) if is_it else given


SIGN_UP, FORGED, READ = (
    "Sign-up without a genuine invitation", "Forged and foreign tokens of links", "GET and HEAD of links",
)  # fmt: skip
ANSWERS, ENDLESS = "Answers to requests for a link", "Requests for links without end"


@pytest.mark.parametrize(
    ("flaws", "expected"),
    [
        ((), ()),
        ((accepts_any_link, KnowsTheAccounts()), (FORGED, ANSWERS)),
        ((checks_the_password_first, shows_the_host), (FORGED, ANSWERS)),
        ((uses_links_by_get, requests_links_without_end), (READ, ENDLESS)),
        ((needs_no_invitation,), (SIGN_UP, FORGED)),
    ],
)
async def test_defects_of_links_are_detected(
    attacked: Attacked, flaws: tuple[Tamper, ...], expected: tuple[str, ...]
) -> None:
    """The attacks named for the defects detect them; the service itself holds."""
    check(await attacked("links", *flaws), "links", *expected)


@pytest.mark.parametrize("signup", ["invited", "closed"])
async def test_a_restricted_sign_up_is_found_out(attacked: Attacked, signup: str) -> None:
    """Whether it is restricted is detected, not assumed; attacks that need accounts are not tried."""
    report = await attacked("links", signup=signup)
    assert {SIGN_UP, READ, ENDLESS} == names(report, "held"), report.text()
    (found,) = (finding for finding in report.findings if finding.attack == SIGN_UP)
    assert {"invited": "by invitation", "closed": "closed"}[signup] in found.said
    # Before and after each attack the service is asked for its keys.
    assert f" {found.requests - 2} requests refused" in found.said


async def test_a_gap_of_a_restricted_sign_up_is_detected(attacked: Attacked) -> None:
    """It is open to everybody who gives an address."""
    assert {SIGN_UP} == names(await attacked("links", opens_sign_up_by_an_address, signup="invited"), "broken")


async def test_a_service_without_messages_holds(attacked: Attacked) -> None:
    """It answers 404 to every request for a link."""
    report = await attacked("links", messages="off")
    check(report, "links")
    assert 2 == sum("sends no messages" in finding.said for finding in report.findings)


# Mailboxes.


@dataclass
class AcceptsLinksAgain:
    """A link that succeeded once succeeds again."""

    path: str
    used: set[str] = field(default_factory=set)

    async def __call__(self, request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        given = await forward(request)
        if request.path != self.path:
            return given
        tokens = set(request.given("token"))
        if given.status == 204:
            self.used |= tokens
        else:
            await asyncio.sleep(0.05)  # of concurrent requests one must be the first to succeed
        return DONE if tokens & self.used else given


@dataclass
class ForgetsCancellations:
    """A cancelled address can be confirmed."""

    is_cancelled: bool = False

    async def __call__(self, request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        given = await forward(request)
        self.is_cancelled |= request.path == "/email/cancel" and given.status == 204
        is_it = request.path == "/email/confirm" and given.status == 401 and self.is_cancelled
        return DONE if is_it else given


async def follows_links(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    """Use a link at a GET, and refuse the GET."""
    given = await forward(request)
    if request.method == "GET" and request.path == "/email/confirm" and request.query.startswith("token="):
        body = f'{{"token": "{request.query.removeprefix("token=")}"}}'.encode()
        headers = (("content-type", "application/json"), ("host", "localhost"))
        await forward(replace(request, method="POST", query="", headers=headers, body=body))
    return given


async def logs_in_by_link(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    return ADMITTED if request.path == "/password-reset/confirm" and given.status == 204 else given


@dataclass
class KeepsSessions:
    """A refresh token from before a reset is accepted."""

    was_reset: bool = False

    async def __call__(self, request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        given = await forward(request)
        self.was_reset |= request.path == "/password-reset/confirm" and given.status == 204
        return ADMITTED if request.path == "/token" and given.status == 400 and self.was_reset else given


@dataclass
class WritesItself:
    """Write messages with a link for a new password: `count` at each request, with this host."""

    folder: Path
    host: str
    count: int = 1
    written: int = 0

    async def __call__(self, request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        if request.path == "/password-reset":
            for _ in range(self.count):
                self.written += 1
                message = EmailMessage()
                message["To"] = f"{request.members['username'].partition('@')[0]}@attack.invalid"
                message.set_content(f"Here: {self.host}/account#reset-password=ktl_{'A' * self.written}\n")
                await asyncio.to_thread((self.folder / f"own-{self.written}.eml").write_bytes, bytes(message))
        return await forward(request)


CONFIRMS, REFUSES, NEW, FEW = (
    "The link that confirms an address", "The link that refuses an address", "The link for a new password",
    "Messages to one user",
)  # fmt: skip


async def test_the_mailbox_of_the_service_holds(attacked: Attacked) -> None:
    """Genuine links are used once."""
    check(await attacked("mailbox"), "mailbox")


@pytest.mark.parametrize(
    ("flaws", "expected"),
    [
        ((AcceptsLinksAgain("/email/cancel"), logs_in_by_link), {REFUSES, NEW}),
        ((AcceptsLinksAgain("/password-reset/confirm"), ForgetsCancellations()), {REFUSES, NEW}),
        ((KeepsSessions(),), {NEW}),
        ((follows_links,), {CONFIRMS, REFUSES, NEW, FEW}),
    ],
)
async def test_defects_of_mailboxes_are_detected(
    attacked: Attacked, flaws: tuple[Tamper, ...], expected: set[str]
) -> None:
    """Only the named attacks detect them."""
    report = await attacked("mailbox", *flaws)
    assert expected == names(report, "broken"), report.text()


async def test_links_to_another_host_and_too_many_messages_are_detected(attacked: Attacked, mail: Path) -> None:
    """The messages have the host of a header, or there is one for every request."""
    report = await attacked("mailbox", WritesItself(mail, f"http://{ATTACKER_HOST}"))
    assert {NEW, FEW} == names(report, "broken"), report.text()


async def test_a_mailbox_without_messages_is_not_tried(attacked: Attacked, mail: Path) -> None:
    """If no message arrives, nothing about links is proved."""

    async def empties(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        return await forward(replace(request, body=request.body.replace(b'"email"', b'"locale"')))

    report = await attacked("mailbox", empties)
    assert attacks_of("mailbox") == names(report, "not tried"), report.text()


# Deletions.


async def deletes_without_a_password(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    is_it = (request.method, request.path) == ("DELETE", "/me") and given.status == 422
    return ForwardedResponse.of(202, {"deleted_at": 1}) if is_it else given


async def exports_for_any_session(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    return ForwardedResponse.of(200, {}) if request.path == "/me/export" and given.status == 401 else given


async def restores_by_the_password(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    is_it = request.path == "/me/restore" and given.status == 200
    return ForwardedResponse.of(200, {**given.members, "access_token": "a"}) if is_it else given


@dataclass
class KeepsTokensOfDeletedUsers:
    is_deleted: bool = False

    async def __call__(self, request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        given = await forward(request)
        self.is_deleted |= request.method == "DELETE" and given.status == 202
        return ADMITTED if request.path == "/token" and given.status == 400 and self.is_deleted else given


PROOFS, TOKENS, RESTORES = (
    "A deletion without its proofs", "Tokens and passwords after a deletion", "A restore with less than both factors",
)  # fmt: skip


@pytest.mark.parametrize(
    ("flaws", "expected"),
    [
        ((), set()),
        ((deletes_without_a_password, restores_by_the_password), {PROOFS, RESTORES}),
        ((exports_for_any_session,), {PROOFS}),
    ],
)
async def test_defects_of_deletions_are_detected(
    attacked: Attacked, flaws: tuple[Tamper, ...], expected: set[str]
) -> None:
    """The attacks named for the defects detect them; the service itself holds."""
    check(await attacked("deletion", *flaws), "deletion", *expected)


async def test_a_token_that_outlives_its_user_is_detected(attacked: Attacked) -> None:
    """Without that deletion, the restore is not tried."""
    report = await attacked("deletion", KeepsTokensOfDeletedUsers())
    assert ({TOKENS}, {RESTORES}) == (names(report, "broken"), names(report, "not tried")), report.text()


# Administration.


async def lists_users_for_everybody(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    is_it = request.path == "/admin/users" and request.method == "GET" and given.status == 403
    return ForwardedResponse.of(200, {"users": []}) if is_it else given


async def looks_for_the_user_first(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    is_it = request.path.endswith("/reset-mfa") and given.status == 403
    return ForwardedResponse.of(404, {"code": "not_found"}) if is_it else given


async def serves_one_path(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    """Serve one path of an administration that is off."""
    given = await forward(request)
    return ForwardedResponse.of(401, {"code": "invalid_token"}) if request.path == "/admin/events" else given


async def grants_any_scope(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    return ADMITTED if request.path == "/token" and b"keyturn%3Ausers.write" in request.body else given


EVERY, OTHERS = "Every token without a scope or the role", "Scopes, roles and paths in other ways"


@pytest.mark.parametrize(
    ("admin_api", "flaws", "expected"),
    [
        ("off", (), set()),
        ("on", (), set()),
        ("on", (lists_users_for_everybody,), {EVERY, OTHERS}),
        ("on", (looks_for_the_user_first, grants_any_scope), {EVERY, OTHERS}),
        ("off", (serves_one_path,), {EVERY}),
    ],
)
async def test_defects_of_the_administration_are_detected(
    attacked: Attacked, admin_api: str, flaws: tuple[Tamper, ...], expected: set[str]
) -> None:
    """The attacks named for the defects detect them; the service itself holds, whether its API is on or off."""
    check(await attacked("administration", *flaws, admin_api=admin_api), "administration", *expected)
