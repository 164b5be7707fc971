"""A hundred thousand hostile inputs and hundreds of hostile tokens: `python -m bench.hostile [--inputs 100000]`.

Every operation of openapi.json gets requests that are wrong by construction (`mutators.py`), with valid credentials,
so that a request that should be refused would take effect; and requests with randomly changed bytes, with invalid
credentials. Every token of `forgeries.py` is sent to seven endpoints. All requests use real sockets, to a running
Keyturn whose limits are off, because a 429 would hide the answer.

No input may be accepted (2xx) or break the service (5xx), openapi.json or HTTP must define every answer for that
operation, and no refusal may repeat what was sent. Where an operation needs no authentication, a randomly changed
request may still be valid: its 2xx is counted apart. The choices come from a seed; each run has its own keys and
tokens.
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
from tests.harness.servers import REPOSITORY

AT_ONCE = 12
"""Fewer requests than may hash and queue, else the service would shed some."""
PATIENCE, UNFINISHED = 15.0, 0.25
"""Seconds to wait for an answer; and for one to a possibly incomplete request, which may take ten seconds."""
FLIPPED = 0.2
"""The fraction of inputs with randomly changed bytes."""
OF_HTTP = {400, 404, 405, 408, 413, 415, 431}
"""Statuses that every path can answer before an operation runs."""
OPEN = frozenset({"/signup", "/revoke", "/recovery", "/password-reset"})
"""Operations without authentication: a randomly changed request may still be valid."""
PAST_THE_EDGE = (b'"invalid_code"', b'"invalid_credentials"')
"""Codes that show that a wrong request passed the validation, and only its secret was refused."""
SETTINGS = {"KEYTURN_MFA_PENDING_TTL": "3600", "KEYTURN_ACCESS_TTL": "86400", "KEYTURN_ADMIN_API": "on"}
"""Lifetimes with which the credentials stay valid to the end of the run; and all operations."""


@dataclass
class Tally:
    """What was sent, and the results."""

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
    """One request, and whether 2xx may be its right answer."""

    target: Target
    how: str
    request: bytes
    may_pass: bool = False


@dataclass(frozen=True, slots=True)
class Documented:
    """The answers that openapi.json defines for each operation."""

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
    world = replace(world, environment={**world.environment, **SETTINGS})
    async with served(world) as running, accounts_of(world) as accounts:
        inputs, tokens = Tally(), Tally()
        async with asyncio.timeout(120 + options.inputs / 50):
            await send_all(running, inputs_of(accounts, options.inputs, options.seed), inputs)
            presented = await send_tokens(running, accounts, tokens, options.seed)
        for path, status in (await accounts.after_all(running.port)).items():
            if status >= 300:
                tokens.findings.append(f"at the end {path} answers {status} to the genuine token")
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
        say(f"  {forgeries.VECTORS} IS MISSING: the JWS vectors of Project Wycheproof were not sent")
    left = (
        f"; {inputs.harmless} changes left the request valid and are not counted, "
        f"{inputs.shed} were answered 503 busy and sent again"
    )
    what = f"{presented:,} hostile tokens at seven endpoints, {vectors} of them vectors ({world.name})"
    by_pyjwt = f"; PyJWT by itself accepts {forgeries.accepted_by_pyjwt_alone()} of the vectors" if vectors else ""
    return [
        verdict(f"{options.inputs:,} hostile inputs ({world.name})", inputs, left),
        verdict(what, tokens, by_pyjwt),
    ]


def verdict(what: str, tally: Tally, more: str) -> Line:
    reached = f"{tally.accepted} accepted, {tally.broken} 5xx, {tally.undocumented} undocumented answers{more}"
    is_good = not (tally.accepted or tally.broken or tally.undocumented)
    return Line(what, "none accepted, no 5xx, no undocumented answer", reached, is_good, command())


def inputs_of(accounts: Accounts, how_many: int, seed: int) -> Iterator[Input]:
    """Yield the inputs, alternating between the operations."""
    chance = random.Random(seed)
    valid, invalid = accounts.targets(), accounts.targets_of_nobody()
    for n in range(how_many):
        if chance.random() < FLIPPED:
            target = invalid[n % len(invalid)]
            may_pass = target.template in OPEN or target.is_public
            yield Input(target, flipped.__name__, flipped(target, chance), may_pass)
            continue
        target = valid[n % len(valid)]
        wrong: Sequence[Mutator] = mutators_of(target)
        if target.template == "/verify":  # it answers any method, because a gateway sends the method of its caller
            wrong = [mutator for mutator in wrong if mutator is not other_method]
        mutator = chance.choice(wrong)
        yield Input(target, mutator.__name__, mutator(target, chance))


async def send_all(running: Running, inputs: Iterator[Input], tally: Tally) -> None:
    documented = Documented.read()

    async def present(one: Input) -> Answer | None:
        async with connections(running.port, 1) as (line,):
            answer = await ask(line, one.request, UNFINISHED if one.how in MAYBE_UNFINISHED else PATIENCE)
            line.reset()  # else this machine would run out of ports
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
    """Return whether a login was shed: passwords of closed connections are still hashed, and may fill the queue."""
    return answer.status == 503 and b'"busy"' in answer.body and bool(answer.header("retry-after"))


MAYBE_UNFINISHED = frozenset({"flipped", "no_request_line", "ambiguous", "broken_chunks"})


async def ask(line: Connection, request: bytes, patience: float) -> Answer | None:
    """Return the first answer; `None` if the service closed the connection or waits for more bytes."""
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
    """Return whether it is a problem (RFC 9457) with a known code, or an OAuth error (RFC 6749), without canary."""
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
    """Send each token to every route that requires another kind. Returns the number of tokens."""
    documented = Documented.read()
    tokens = list(dict.fromkeys(accounts.hostile_tokens(random.Random(seed))))
    presented = iter([(token, "") for token in tokens] + list(accounts.tokens_at_wrong_routes()))

    async def work() -> None:
        for token, only in presented:
            for route, request in accounts.placements(token):
                if only in {"", route}:
                    async with connections(running.port, 1) as (line,):
                        answer = await ask(line, request, PATIENCE)
                        line.reset()
                    tally.count(f"token at {route}", "none" if answer is None else answer.status)
                    if answer is not None:
                        judge_token(route, request, answer, documented, tally)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
    return len(tokens)


def judge_token(route: str, request: bytes, answer: Answer, documented: Documented, tally: Tally) -> None:
    """Record an accepted token. `active: false` at /introspect is a refusal, and /revoke answers 200 to all tokens.

    `invalid_code` means that the pending token was accepted, and so does 404 at /qrcode, since the factor is
    confirmed.
    """
    if answer.status >= 500:
        tally.broken += 1
        tally.find(route, request, answer)
    elif route == "/revoke" and answer.status == 200:
        return  # the end of the run shows whether it ended a session
    elif answer.status < 300 and (route, answer.body) != ("/introspect", b'{"active":false}'):
        tally.accepted += 1
        tally.find(f"accepted at {route}", request, answer)
    elif b'"invalid_code"' in answer.body or (route == "/qrcode" and answer.status == 404):
        tally.accepted += 1
        tally.find("accepted as a pending token", request, answer)
    elif answer.status >= 300 and not is_refusal(answer, documented):
        tally.undocumented += 1
        tally.find(f"undocumented form at {route}", request, answer)


def main() -> int:
    parser = ArgumentParser(prog="python -m bench.hostile", description="Hostile inputs and tokens.")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    return run(parser, measure, quiet=False)


if __name__ == "__main__":
    sys.exit(main())
