"""A hundred thousand hostile inputs and hundreds of hostile tokens: `python -m bench.hostile [--inputs 100000]`.

Every operation of openapi.json is sent requests that are wrong by construction (`mutators.py`), with good
credentials, so that what should have been refused would be done; and requests with bytes changed at random, with bad
ones. Every token of `forgeries.py` is presented at seven endpoints. Over real sockets, to a served Keyturn whose
limits are off, since a 429 would hide what comes behind it.

No input may be accepted (2xx), none may break the service (5xx), every answer must be one that openapi.json or HTTP
knows for that operation, and no refusal may repeat what was sent. The choices come from a seed; keys and tokens are
the run's own.
"""

import asyncio
import json
import random
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bench import forgeries
from bench.accounts import Accounts, accounts_of
from bench.board import Line, command, run, say
from bench.load import Answer, Connection, connections, get
from bench.mutators import CANARY, Mutator, Target, flipped, mutators_of, other_method
from bench.worlds import Running, World, served
from tests.servers import REPOSITORY

AT_ONCE = 12
"""Fewer than may hash and queue, or the service would shed some."""
PATIENCE, UNFINISHED = 15.0, 0.25
"""Seconds to wait for an answer; and for one to bytes that may be no whole request, which has ten seconds to come."""
FLIPPED = 0.2
"""The share of inputs with bytes changed at random."""
OF_HTTP = {400, 404, 405, 408, 413, 415, 431}
"""What every path can answer before any operation is asked."""
OPEN = frozenset({"/signup", "/revoke", "/recovery"})
"""They take what is in order from anybody: after random changes, that may be what is left of it."""
PAST_THE_EDGE = (b'"invalid_code"', b'"invalid_credentials"')
"""Codes that say that a wrong request was taken for one in order, and only its secret was not."""
LIVES = {"KEYTURN_MFA_PENDING_TTL": "3600", "KEYTURN_ACCESS_TTL": "86400"}
"""So that good credentials are good to the end of the run."""


@dataclass
class Tally:
    """What was sent and what became of it."""

    statuses: dict[str, Counter[str]] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    accepted: int = 0
    broken: int = 0
    undocumented: int = 0
    harmless: int = 0
    shed: int = 0

    def count(self, where: str, status: object) -> None:
        self.statuses.setdefault(where, Counter())[str(status)] += 1

    def find(self, what: str, request: bytes, answer: Answer) -> None:
        self.findings.append(f"{what}: {request[:300]!r} -> {answer.status} {answer.body[:200]!r}")


@dataclass(frozen=True, slots=True)
class Input:
    """One request, and whether 2xx may be what it deserves."""

    target: Target
    how: str
    request: bytes
    may_pass: bool = False


@dataclass(frozen=True, slots=True)
class Documented:
    """What openapi.json says of an operation's answers."""

    statuses: dict[tuple[str, str], set[int]]
    codes: set[str]

    @classmethod
    def read(cls) -> "Documented":
        document = json.loads((REPOSITORY / "openapi.json").read_text("utf-8"))
        return cls(
            {
                (method.upper(), path): set(map(int, operation["responses"]))
                for path, methods in document["paths"].items()
                for method, operation in methods.items()
            },
            set(document["components"]["schemas"]["Problem"]["properties"]["code"]["examples"]),
        )


async def measure(world: World, options: Namespace) -> list[Line]:
    world = replace(world, environment={**world.environment, **LIVES})
    async with served(world) as running, accounts_of(world) as accounts:
        inputs, tokens = Tally(), Tally()
        async with asyncio.timeout(120 + options.inputs / 50):
            await send_all(running, inputs_of(accounts, options.inputs, options.seed), inputs)
            presented = await send_tokens(running, accounts, tokens, options.seed)
        for path, status in (await accounts.after_all(running.port)).items():
            if status >= 300:
                tokens.findings.append(f"in the end the genuine token is answered {status} at {path}")
                tokens.accepted += 1
        async with connections(running.port, 1) as (line,):
            (await line.send(get("/readyz"))).need(200)
    for tally in (inputs, tokens):
        for where, statuses in sorted(tally.statuses.items()):
            say(f"  {where:44}" + "  ".join(f"{status}: {n:,}" for status, n in sorted(statuses.items())))
        for finding in tally.findings[:20]:
            say(f"  {finding}")
    vectors = len(forgeries.wycheproof())
    if not vectors:
        say(f"  {forgeries.VECTORS} IS NOT THERE: the JWS vectors of Project Wycheproof were not presented")
    left = f"; {inputs.harmless} became harmless, {inputs.shed} shed and sent again"
    what = f"{presented:,} hostile tokens at seven endpoints, {vectors} of them Wycheproof's ({world.name})"
    by_pyjwt = f"; PyJWT alone takes {forgeries.accepted_by_pyjwt_alone()} of the vectors" if vectors else ""
    return [
        verdict(f"{options.inputs:,} hostile inputs ({world.name})", inputs, left),
        verdict(what, tokens, by_pyjwt),
    ]


def verdict(what: str, tally: Tally, more: str) -> Line:
    reached = f"{tally.accepted} accepted, {tally.broken} 5xx, {tally.undocumented} undocumented{more}"
    is_good = not (tally.accepted or tally.broken or tally.undocumented)
    return Line(what, "none accepted, no 5xx", reached, is_good, command())


def inputs_of(accounts: Accounts, how_many: int, seed: int) -> Iterator[Input]:
    """The inputs, in turn for every operation."""
    chance = random.Random(seed)
    good, bad = accounts.targets(), accounts.targets_of_nobody()
    for n in range(how_many):
        if chance.random() < FLIPPED:
            target = bad[n % len(bad)]
            may_pass = target.template in OPEN or target.is_public
            yield Input(target, flipped.__name__, flipped(target, chance), may_pass)
            continue
        target = good[n % len(good)]
        wrong: Sequence[Mutator] = mutators_of(target)
        if target.template == "/verify":  # it answers any method, for the gateway sends the caller's
            wrong = [mutator for mutator in wrong if mutator is not other_method]
        mutator = chance.choice(wrong)
        yield Input(target, mutator.__name__, mutator(target, chance))


async def send_all(running: Running, inputs: Iterator[Input], tally: Tally) -> None:
    documented = Documented.read()

    async def present(one: Input) -> Answer | None:
        async with connections(running.port, 1) as (line,):
            answer = await ask(line, one.request, UNFINISHED if one.how in MAYBE_UNFINISHED else PATIENCE)
            line.reset()  # or the ports of this machine would be used up
        return answer

    async def work() -> None:
        for one in inputs:
            answer = await present(one)
            if one.how == flipped.__name__ and answer is not None and is_shed(answer):
                tally.shed += 1
                await asyncio.sleep(int(answer.header("retry-after")))
                answer = await present(one)
            tally.count(f"{one.target.method} {one.target.template}", "none" if answer is None else answer.status)
            if answer is not None:
                judge(one, answer, documented, tally)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


def is_shed(answer: Answer) -> bool:
    """Where we hung up before a slow answer, passwords are hashed for nobody, and the queue may be full of them."""
    return answer.status == 503 and b'"busy"' in answer.body and bool(answer.header("retry-after"))


MAYBE_UNFINISHED = frozenset({"flipped", "no_request_line", "ambiguous", "broken_chunks"})


async def ask(line: Connection, request: bytes, patience: float) -> Answer | None:
    """The first answer, or `None` if the service hung up, or waits for more."""
    line.write(request)
    try:
        return await asyncio.wait_for(line.receive(), patience)
    except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
        return None


def judge(one: Input, answer: Answer, documented: Documented, tally: Tally) -> None:
    known = documented.statuses[one.target.method, one.target.template] | OF_HTTP
    if answer.status >= 500:
        tally.broken += 1
        tally.find(one.how, one.request, answer)
    elif answer.status < 300 and not one.may_pass:
        tally.accepted += 1
        tally.find(f"accepted, {one.how}", one.request, answer)
    elif answer.status < 300:
        tally.harmless += 1
    elif one.how != "flipped" and any(code in answer.body for code in PAST_THE_EDGE):
        tally.accepted += 1
        tally.find(f"past the edge, {one.how}", one.request, answer)
    elif one.how != "flipped" and answer.status not in known:
        tally.undocumented += 1
        tally.find(f"undocumented status, {one.how}", one.request, answer)
    elif not is_refusal(answer, documented):
        tally.undocumented += 1
        tally.find(f"undocumented form, {one.how}", one.request, answer)


def is_refusal(answer: Answer, documented: Documented) -> bool:
    """Whether it is a problem (RFC 9457) with a known code, or OAuth's (RFC 6749), and repeats nothing."""
    if CANARY.encode() in answer.body + answer.head:
        return False
    try:
        said: dict[str, Any] = answer.json()
    except ValueError:
        return False
    if answer.header("content-type") == "application/problem+json":
        return said["status"] == answer.status and said["code"] in documented.codes
    return set(said) == {"error", "error_description"}


async def send_tokens(running: Running, accounts: Accounts, tally: Tally, seed: int) -> int:
    """How many there were; each goes to every door that is not its own."""
    documented = Documented.read()
    tokens = list(dict.fromkeys(accounts.hostile_tokens(random.Random(seed))))
    presented = iter([(token, "") for token in tokens] + list(accounts.tokens_at_wrong_doors()))

    async def work() -> None:
        for token, only in presented:
            for door, request in accounts.doors(token):
                if only in {"", door}:
                    async with connections(running.port, 1) as (line,):
                        answer = await ask(line, request, PATIENCE)
                        line.reset()
                    tally.count(f"token at {door}", "none" if answer is None else answer.status)
                    if answer is not None:
                        judge_token(door, request, answer, documented, tally)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
    return len(tokens)


def judge_token(door: str, request: bytes, answer: Answer, documented: Documented, tally: Tally) -> None:
    """An inactive token is refused at /introspect, and /revoke says 200 to all.

    `invalid_code` would be a yes to the pending token; 404 at /qrcode too, since the factor is confirmed.
    """
    if answer.status >= 500:
        tally.broken += 1
        tally.find(door, request, answer)
    elif door == "/revoke" and answer.status == 200:
        return  # whether it ended anything is seen at the end
    elif answer.status < 300 and (door, answer.body) != ("/introspect", b'{"active":false}'):
        tally.accepted += 1
        tally.find(f"accepted at {door}", request, answer)
    elif b'"invalid_code"' in answer.body or (door == "/qrcode" and answer.status == 404):
        tally.accepted += 1
        tally.find("taken for a pending token", request, answer)
    elif answer.status >= 300 and not is_refusal(answer, documented):
        tally.undocumented += 1
        tally.find(f"undocumented form at {door}", request, answer)


def main() -> int:
    parser = ArgumentParser(prog="python -m bench.hostile", description="Hostile inputs and tokens.")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    return run(parser, measure, quiet=False)


if __name__ == "__main__":
    sys.exit(main())
