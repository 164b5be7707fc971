"""What a history proves. Pure functions: each takes what was recorded and gives the violations of one sentence."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.web.problems import STATUS, WIRE
from tests.faults.history import Exchange

Violation = str

ACTS = ("/signup", "/qrcode/{username}", "/login", "/login-2fa", "/token", "/me", "/verify", "/introspect", "/revoke",
        "/logout", "/disable-mfa", "/enable-mfa")  # fmt: skip
"""What the crowd does."""
Check = Callable[[Sequence[Exchange]], list[Violation]]


def no_code_is_accepted_twice(history: Sequence[Exchange]) -> list[Violation]:
    """Of all that give the code of one time step of one authenticator, one at most is let in."""
    accepted: dict[tuple[str, int], list[Exchange]] = defaultdict(list)
    for exchange in _accepted_codes(history):
        accepted[exchange.told["secret"], exchange.told["step"]].append(exchange)
    return [
        f"{who[0].person}: step {step} was accepted {len(who)} times"
        for (_, step), who in accepted.items()
        if len(who) > 1
    ]


def accepted_steps_increase(history: Sequence[Exchange]) -> list[Violation]:
    """A code that is accepted after another one was belongs to a later step."""
    found = []
    by_secret: dict[str, list[Exchange]] = defaultdict(list)
    for exchange in _accepted_codes(history):
        by_secret[exchange.told["secret"]].append(exchange)
    for exchanges in by_secret.values():
        for earlier in exchanges:
            found += [
                f"{later.person}: step {later.told['step']} was accepted after step {earlier.told['step']}"
                for later in exchanges
                if later.sent_at > earlier.answered_at and later.told["step"] < earlier.told["step"]
            ]
    return found


def a_refresh_token_has_one_successor(history: Sequence[Exchange]) -> list[Violation]:
    """Whoever gives it, and as often as he does: the successor is the same or there is none."""
    successors: dict[str, set[str]] = defaultdict(set)
    for exchange in history:
        if exchange.act == "/token" and exchange.is_good:
            successors[exchange.told["refresh_token"]].add(exchange.body["refresh_token"])
    return [f"a refresh token had {len(given)} successors" for given in successors.values() if len(given) > 1]


def every_answer_is_to_its_own_request(history: Sequence[Exchange]) -> list[Violation]:
    """It has the request's id, and tokens in it are the person's who asked."""
    found = []
    for exchange in history:
        if exchange.status is None:
            continue
        if exchange.echoed_id != exchange.request_id:
            found.append(f"{exchange.act}: the answer to {exchange.request_id} was that to {exchange.echoed_id!r}")
        for name in (exchange.claims.get("username"), exchange.body.get("username")):
            if name not in {None, exchange.person}:
                found.append(f"{exchange.act}: {exchange.person} got what was {name}'s")
    return found


@dataclass
class Known:
    """What may be true of a person, as far as the answers so far tell."""

    is_there: bool = False
    """Acknowledged: a signup was answered 201, or the right password was accepted."""
    mfa: set[str] = field(default_factory=lambda: {"none"})
    coming: set[str] = field(default_factory=set)
    """States of changes without an answer: they may still happen, until an acknowledged one takes their place."""
    ended: dict[str, float] = field(default_factory=dict)
    """When the end of a session was acknowledged, by its `sid`."""


def nothing_acknowledged_is_lost(history: Sequence[Exchange]) -> list[Violation]:
    """Accounts, enrolments, disablings and endings that were acknowledged are there in all later answers.

    In particular the password alone gives nobody tokens whose second factor was acknowledged and not given up since.
    """
    people: dict[str, list[Exchange]] = defaultdict(list)
    for exchange in history:
        people[exchange.person].append(exchange)
    found: list[Violation] = []
    for name, exchanges in people.items():
        known = Known()
        for exchange in sorted(exchanges, key=lambda exchange: exchange.answered_at):
            found += [f"{name}: {sentence}" for sentence in _contradictions(known, exchange)]
            _learn(known, exchange)
    return found


def _contradictions(known: Known, exchange: Exchange) -> list[str]:
    found = []
    if exchange.act == "/login" and known.is_there:
        if exchange.status == 401:
            found.append("the account is lost")
        if exchange.is_good:
            seen, possible = _mfa_seen(exchange), known.mfa | known.coming
            if seen == "off" and "off" not in possible:
                found.append("the enrolment is lost: the password alone gave tokens")
            elif seen not in possible:
                found.append(f"its second factor is {seen}, and must be {' or '.join(sorted(possible))}")
    sid = exchange.told.get("sid")
    if sid in known.ended and known.ended[sid] < exchange.sent_at:
        is_alive = exchange.act in {"/token", "/me"} and exchange.is_good
        if is_alive or (exchange.act == "/introspect" and exchange.body.get("active")):
            found.append(f"{exchange.act}: a session that was ended is alive")
    return found


def _learn(known: Known, exchange: Exchange) -> None:
    """What the answer says is true from here on, or may be."""
    becomes = {
        "/signup": "asked" if exchange.told.get("enable_mfa") else "off",
        "/login-2fa": "confirmed",
        "/enable-mfa": "asked",
        "/disable-mfa": "off",
    }.get(exchange.act)
    if becomes is not None and exchange.is_good:
        known.is_there, known.mfa, known.coming = True, {becomes}, set()
    elif becomes is not None and exchange.is_unknown:
        known.coming = known.coming | {becomes}
    if exchange.act == "/login" and exchange.is_good:
        known.is_there, known.mfa = True, {_mfa_seen(exchange)}
    if exchange.act == "/disable-mfa" and exchange.is_good:
        known.ended |= dict.fromkeys(exchange.told["sids"], exchange.answered_at)
    if exchange.act in {"/logout", "/revoke"} and exchange.is_good:
        known.ended[exchange.told["sid"]] = exchange.answered_at


def _mfa_seen(login: Exchange) -> str:
    if not login.body["mfa_required"]:
        return "off"
    return "confirmed" if login.body["mfa_confirmed"] else "asked"


def _accepted_codes(history: Iterable[Exchange]) -> Iterable[Exchange]:
    return (exchange for exchange in history if exchange.is_good and "step" in exchange.told)


SAFETY: tuple[Check, ...] = (
    no_code_is_accepted_twice,
    accepted_steps_increase,
    a_refresh_token_has_one_successor,
    every_answer_is_to_its_own_request,
    nothing_acknowledged_is_lost,
)
"""What holds in every fault."""


def every_answer_is_documented(history: Sequence[Exchange], document: Mapping[str, Any]) -> list[Violation]:
    """Its status stands in the OpenAPI document for the route, and its code belongs to that status."""
    of_codes = {error.code: status for error, status in STATUS.items()} | {
        code: status for status, (code, _) in WIRE.items()
    }
    found = set()
    for exchange in history:
        if exchange.status is None:
            continue
        documented = {status for method in document["paths"][exchange.act].values() for status in method["responses"]}
        if str(exchange.status) not in documented:
            found.add(f"{exchange.act}: {exchange.status} is not documented")
        if exchange.code and exchange.code != "temporarily_unavailable" and of_codes.get(exchange.code) is None:
            found.add(f"{exchange.act}: the code {exchange.code} is not documented")
    return sorted(found)


def every_answer_is_in_time(history: Sequence[Exchange], *, within: float, allowance: float) -> list[Violation]:
    """Answers to what was asked during the fault took `within` seconds at most, and what a busy machine adds."""
    return [
        f"{exchange.act}: {exchange.status} after {exchange.seconds:.2f} s"
        for exchange in history
        if exchange.phase == "fault" and not exchange.is_refused and exchange.seconds > within + allowance
    ]


def everything_was_tried(history: Sequence[Exchange]) -> list[Violation]:
    """Before and after the fault each act succeeded for somebody: else the rest proves nothing."""
    found = []
    for phase in ("calm", "after"):
        good = {exchange.act for exchange in history if exchange.phase == phase and exchange.is_good}
        found += [f"{act}: never succeeded in the phase '{phase}'" for act in ACTS if act not in good]
    return found


def no_request_is_cut(history: Sequence[Exchange]) -> list[Violation]:
    """Whoever got a connection got an answer."""
    return [
        f"{exchange.act}: no answer" for exchange in history if exchange.status is None and not exchange.is_refused
    ]
