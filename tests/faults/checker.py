"""The checks of a history. Pure functions: each takes the record and returns the violations of one sentence."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.web.problems import STATUS, WIRE
from tests.faults.history import Exchange
from tests.harness.people import PASSWORD

Violation = str

ACTS = ("/signup", "/qrcode/{username}", "/login", "/login-2fa", "/token", "/me", "/verify", "/introspect", "/revoke",
        "/logout", "/disable-mfa", "/enable-mfa", "/email", "/email/confirm", "/password-reset",
        "/password-reset/confirm", "DELETE /me", "/me/restore", "/admin/users/{sub}")  # fmt: skip
"""The acts of the load: a path, with the method where another act has the path."""
Check = Callable[[Sequence[Exchange]], list[Violation]]


def no_code_is_accepted_twice(history: Sequence[Exchange]) -> list[Violation]:
    """The code of one time step of one authenticator is accepted at most once."""
    accepted: dict[tuple[str, int], list[Exchange]] = defaultdict(list)
    for exchange in _accepted_codes(history):
        accepted[exchange.sent["secret"], exchange.sent["step"]].append(exchange)
    return [
        f"{answers[0].person}: step {step} was accepted {len(answers)} times"
        for (_, step), answers in accepted.items()
        if len(answers) > 1
    ]


def accepted_steps_increase(history: Sequence[Exchange]) -> list[Violation]:
    """A code that is accepted after another code of the factor belongs to a later time step."""
    found = []
    by_secret: dict[str, list[Exchange]] = defaultdict(list)
    for exchange in _accepted_codes(history):
        by_secret[exchange.sent["secret"]].append(exchange)
    for exchanges in by_secret.values():
        for earlier in exchanges:
            found += [
                f"{later.person}: step {later.sent['step']} was accepted after step {earlier.sent['step']}"
                for later in exchanges
                if later.sent_at > earlier.answered_at and later.sent["step"] < earlier.sent["step"]
            ]
    return found


def a_refresh_token_has_one_successor(history: Sequence[Exchange]) -> list[Violation]:
    """However often and by whichever replica a token is refreshed, it has one successor or none."""
    successors: dict[str, set[str]] = defaultdict(set)
    for exchange in history:
        if exchange.act == "/token" and exchange.is_good and "refresh_token" in exchange.sent:
            successors[exchange.sent["refresh_token"]].add(exchange.body["refresh_token"])
    return [f"a refresh token had {len(given)} successors" for given in successors.values() if len(given) > 1]


def every_answer_is_to_its_own_request(history: Sequence[Exchange]) -> list[Violation]:
    """An answer has the id of its request, and its tokens belong to the user of the request."""
    found = []
    for exchange in history:
        if exchange.status is None:
            continue
        if exchange.echoed_id != exchange.request_id:
            found.append(f"{exchange.act}: the answer to {exchange.request_id} was that to {exchange.echoed_id!r}")
        for name in (exchange.claims.get("username"), exchange.body.get("username")):
            if name not in {None, exchange.person}:
                found.append(f"{exchange.act}: {exchange.person} received a token of {name}")
    return found


def a_link_is_used_once(history: Sequence[Exchange]) -> list[Violation]:
    """However often and at whichever replica the token of a link is used, one use succeeds or none."""
    used: dict[str, list[Exchange]] = defaultdict(list)
    for exchange in history:
        if "link" in exchange.sent and exchange.is_good:
            used[exchange.sent["link"]].append(exchange)
    return [
        f"{uses[0].person}: a link was used {len(uses)} times at {uses[0].act}"
        for uses in used.values()
        if len(uses) > 1
    ]


def no_message_is_lost(history: Sequence[Exchange], received: Callable[[str, str], Sequence[str]]) -> list[Violation]:
    """Each acknowledged request for a message caused one. `received` returns the messages to an address."""
    requested: dict[tuple[str, str], int] = defaultdict(int)
    for exchange in history:
        if exchange.is_good and "message" in exchange.sent:
            requested[exchange.sent["to"], exchange.sent["message"]] += 1
    return [
        f"{count - len(received(to, message))} of {count} messages {message} to {to} are lost"
        for (to, message), count in requested.items()
        if len(received(to, message)) < count
    ]


@dataclass
class Known:
    """The possible states of a user's account, according to the answers so far."""

    is_there: bool = False
    """Whether the account was acknowledged: a signup was answered 201, or the correct password was accepted."""
    mfa: set[str] = field(default_factory=lambda: {"none"})
    coming: set[str] = field(default_factory=set)
    """States after changes without an answer: they are possible until an acknowledged change replaces them."""
    ended: dict[str, float] = field(default_factory=dict)
    """When the end of a session was acknowledged, by `sid`."""
    passwords: set[str] = field(default_factory=lambda: {PASSWORD})
    """The passwords of which one is valid."""
    disabled_at: float | None = None
    """When it was acknowledged that the account is disabled or being deleted, until it may be enabled again."""
    may_be_disabled: bool = False
    disablings: list[Exchange] = field(default_factory=list)
    """All requests to disable or delete the account. While one runs, the account may be disabled."""

    def may_refuse(self, exchange: Exchange) -> bool:
        """Whether the account may have been disabled when this answer was given."""
        is_running = (one.sent_at <= exchange.answered_at <= one.answered_at for one in self.disablings)
        return self.may_be_disabled or any(is_running)


def nothing_acknowledged_is_lost(history: Sequence[Exchange]) -> list[Violation]:
    """Acknowledged accounts, enrolments, disablings and ends of sessions are visible in all later answers.

    In particular the password alone yields no tokens for a user whose second factor was acknowledged and not disabled
    since.
    """
    people: dict[str, list[Exchange]] = defaultdict(list)
    for exchange in history:
        people[exchange.person].append(exchange)
    found: list[Violation] = []
    for name, exchanges in people.items():
        known = Known(disablings=[exchange for exchange in exchanges if _disables(exchange)])
        for exchange in sorted(exchanges, key=lambda exchange: exchange.answered_at):
            found += [f"{name}: {sentence}" for sentence in _contradictions(known, exchange)]
            _learn(known, exchange)
    return found


def _contradictions(known: Known, exchange: Exchange) -> list[str]:
    found = []
    if exchange.act == "/login" and known.is_there:
        password = exchange.sent.get("password", PASSWORD)
        if exchange.status == 401 and known.passwords == {password} and not known.may_refuse(exchange):
            found.append("the account is lost")
        if exchange.is_good and password not in known.passwords:
            found.append("a password from before an acknowledged reset is accepted")
        if exchange.is_good:
            seen, possible = _mfa_seen(exchange), known.mfa | known.coming
            if seen == "off" and "off" not in possible:
                found.append("the enrolment is lost: the password alone gave tokens")
            elif seen not in possible:
                found.append(f"its second factor is {seen}, and must be {' or '.join(sorted(possible))}")
    if known.disabled_at is not None and exchange.sent_at > known.disabled_at and _gives_access(exchange):
        found.append(f"{exchange.act}: a user who is disabled or being deleted has access")
    sid = exchange.sent.get("sid")
    if sid in known.ended and known.ended[sid] < exchange.sent_at:
        is_alive = exchange.act in {"/token", "/me"} and exchange.is_good
        if is_alive or (exchange.act == "/introspect" and exchange.body.get("active")):
            found.append(f"{exchange.act}: a session that has ended is still accepted")
    return found


def _learn(known: Known, exchange: Exchange) -> None:
    """Record what the answer makes true, or possible, from now on."""
    becomes = {
        "/signup": "unconfirmed" if exchange.sent.get("enable_mfa") else "off",
        "/login-2fa": "confirmed",
        "/enable-mfa": "unconfirmed",
        "/disable-mfa": "off",
    }.get(exchange.act)
    if becomes is not None and exchange.is_good:
        known.is_there, known.mfa, known.coming = True, {becomes}, set()
    elif becomes is not None and exchange.is_unknown:
        known.coming = known.coming | {becomes}
    if exchange.act == "/login" and exchange.is_good:
        known.is_there, known.mfa = True, {_mfa_seen(exchange)}
    _learn_password(known, exchange)
    _learn_state(known, exchange)
    if "sids" in exchange.sent and exchange.is_good:
        known.ended |= dict.fromkeys(exchange.sent["sids"], exchange.answered_at)
    if exchange.act in {"/logout", "/revoke"} and exchange.is_good:
        known.ended[exchange.sent["sid"]] = exchange.answered_at


def _learn_password(known: Known, exchange: Exchange) -> None:
    new = exchange.sent.get("new_password")
    if new is not None and exchange.is_good:
        known.passwords = {new}
    elif new is not None and exchange.is_unknown:
        known.passwords = known.passwords | {new}
    elif exchange.act == "/login" and exchange.is_good:
        known.passwords = {exchange.sent.get("password", PASSWORD)}


def _disables(exchange: Exchange) -> bool:
    return exchange.act == "DELETE /me" or exchange.sent.get("disables") is True


def _learn_state(known: Known, exchange: Exchange) -> None:
    """Record whether the account is, or may be, disabled."""
    disables = _disables(exchange)
    is_restored = "restores" in exchange.sent and exchange.act == "/login-2fa"
    enables = exchange.sent.get("disables") is False or is_restored
    if disables and exchange.is_good:
        known.disabled_at, known.may_be_disabled = exchange.answered_at, True
    elif disables and exchange.is_unknown:
        known.may_be_disabled = True
    elif enables and exchange.is_good:
        known.disabled_at, known.may_be_disabled = None, False
    elif enables and exchange.is_unknown:
        known.disabled_at = None


def _gives_access(exchange: Exchange) -> bool:
    """Whether the answer has a token or data of the user. A restore is judged by its own password and code."""
    if not exchange.is_good or "restores" in exchange.sent or exchange.act == "/verify":
        return False
    own = {"/login", "/login-2fa", "/me", "/email", "/enable-mfa", "/disable-mfa", "DELETE /me"}
    is_refresh = exchange.act == "/token" and "refresh_token" in exchange.sent
    is_active = exchange.act == "/introspect" and bool(exchange.body.get("active"))
    return exchange.act in own or is_refresh or is_active


def _mfa_seen(login: Exchange) -> str:
    if not login.body["mfa_required"]:
        return "off"
    return "confirmed" if login.body["mfa_confirmed"] else "unconfirmed"


def _accepted_codes(history: Iterable[Exchange]) -> Iterable[Exchange]:
    return (exchange for exchange in history if exchange.is_good and "step" in exchange.sent)


SAFETY: tuple[Check, ...] = (
    no_code_is_accepted_twice,
    accepted_steps_increase,
    a_refresh_token_has_one_successor,
    every_answer_is_to_its_own_request,
    nothing_acknowledged_is_lost,
    a_link_is_used_once,
)
"""The checks that hold in every fault."""


def every_answer_is_documented(history: Sequence[Exchange], document: Mapping[str, Any]) -> list[Violation]:
    """The OpenAPI document of the route has the status, and the status has the error code."""
    of_codes = {error.code: status for error, status in STATUS.items()} | {
        code: status for status, (code, _) in WIRE.items()
    }
    found = set()
    for exchange in history:
        if exchange.status is None:
            continue
        documented = {
            status
            for method in document["paths"][exchange.act.split()[-1]].values()
            for status in method["responses"]
        }
        if str(exchange.status) not in documented:
            found.add(f"{exchange.act}: {exchange.status} is not documented")
        if exchange.code and exchange.code != "temporarily_unavailable" and of_codes.get(exchange.code) is None:
            found.add(f"{exchange.act}: the code {exchange.code} is not documented")
    return sorted(found)


def every_answer_is_in_time(history: Sequence[Exchange], *, within: float, allowance: float) -> list[Violation]:
    """An answer to a request that was sent during the fault takes at most `within` plus `allowance` seconds.

    `allowance` is what a busy machine adds.
    """
    return [
        f"{exchange.act}: {exchange.status} after {exchange.seconds:.2f} s"
        for exchange in history
        if exchange.phase == "fault" and not exchange.is_refused and exchange.seconds > within + allowance
    ]


def everything_was_tried(history: Sequence[Exchange]) -> list[Violation]:
    """Before and after the fault each act succeeds at least once: otherwise the other checks prove nothing."""
    found = []
    for phase in ("calm", "after"):
        good = {exchange.act for exchange in history if exchange.phase == phase and exchange.is_good}
        found += [f"{act}: never succeeded in the phase '{phase}'" for act in ACTS if act not in good]
    return found


def no_request_is_cut(history: Sequence[Exchange]) -> list[Violation]:
    """Every request on an established connection gets an answer."""
    return [
        f"{exchange.act}: no answer" for exchange in history if exchange.status is None and not exchange.is_refused
    ]
