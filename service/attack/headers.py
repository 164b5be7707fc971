"""Headers: the service must not accept what a request asserts: an address, a host, a method, a path, an identity."""

import asyncio
from collections.abc import Sequence
from itertools import count

from service.attack.campaign import Attack, Context, require_refusal
from service.attack.guessing import exhausted_username
from service.attack.people import WRONG
from service.attack.report import Broken, NotTried
from service.attack.target import METADATA, Answer

ATTACKER_HOST = "attacker.invalid"
"""The host name of an attacker, which no answer may repeat."""
HOST_HEADERS = (
    ("Host", ATTACKER_HOST), ("X-Forwarded-Host", ATTACKER_HOST), ("X-Host", ATTACKER_HOST),
    ("Forwarded", f"host={ATTACKER_HOST}"), ("X-Forwarded-Server", ATTACKER_HOST),
    ("X-Forwarded-Prefix", f"//{ATTACKER_HOST}"), ("X-Original-Host", ATTACKER_HOST),
)  # fmt: skip
"""Headers that assert `ATTACKER_HOST`."""

_NAMES = (
    "X-Forwarded-For", "X-Real-IP", "X-Client-IP", "Client-IP", "True-Client-IP", "CF-Connecting-IP",
    "Fastly-Client-IP", "X-Cluster-Client-IP", "X-Originating-IP", "X-Remote-IP", "X-Remote-Addr", "X-Forwarded",
    "Forwarded-For", "X-Azure-ClientIP", "X-Envoy-External-Address", "X-ProxyUser-IP",
)  # fmt: skip
_ADVICE = "KEYTURN_TRUSTED_PROXIES must name the proxies and no other address"

Lines = list[tuple[str, str]]


class Spoofs:
    """Headers that assert a client address: each has another address of the ranges for documentation (RFC 5737)."""

    def __init__(self, *, chains: bool) -> None:
        self._chains = chains
        self._numbers = count(1)
        self.asserted: set[str] = set()

    def _address(self) -> str:
        number = next(self._numbers) % 500
        address = f"{'198.51.100' if number < 250 else '203.0.113'}.{number % 250 + 1}"
        self.asserted.add(address)
        return address

    def all(self) -> list[Lines]:
        plain: list[Lines] = [[(name, self._address())] for name in _NAMES]
        plain += [[("Forwarded", f"for={self._address()}")], [("Forwarded", f'for="{self._address()}:80";by=_x')]]
        plain.append([(name, self._address()) for name in _NAMES])
        return plain + (self._in_chains() if self._chains else [])

    def _in_chains(self) -> list[Lines]:
        """Return headers for a service behind a proxy that forwards them and appends the address of its peer."""
        name, own = "X-Forwarded-For", self._address
        chains: list[Lines] = [
            [(name, f"{own()}, {behind}")] for behind in ("127.0.0.1", "10.0.0.1", "192.168.0.1", "::1", "unknown")
        ]
        chains += [[(name, own()), (name, own())], [(name, f"{own()}:1234")], [(name, f"::ffff:{own()}")]]
        chains += [[(name, f"{own()} , , ,,")], [(name, f"unknown, {own()}")]]
        return [*chains, [(name, ",".join(own() for _ in range(50)))]]


async def addresses(context: Context) -> str:
    """The address of a session must be that of the connection, whatever headers the login had."""
    password_user, target = await context.people.password_user(), context.target
    spoofs = Spoofs(chains=context.options.forwarded)
    tried = 0
    for lines in spoofs.all():
        body = {"username": password_user.username, "password": password_user.password}
        answer = await target.send("POST", "/login", body=body, headers=lines)
        access = str(answer.members.get("access_token") or "")
        if not access:
            raise NotTried(f"/login answered {answer} to the right password")
        shown = (await target.send("GET", "/sessions", bearer=access)).members.get("sessions", [])
        current = [str(session.get("address")) for session in shown if session.get("current")]
        if not current:
            raise NotTried("/sessions does not show an address")
        if current[0].removeprefix("::ffff:") in spoofs.asserted:
            raise Broken(f"{lines[0][0]} was accepted: the session has the asserted address; {_ADVICE}")
        await target.send("POST", "/logout", bearer=access)
        tried += 1
    return f"{tried} asserted addresses, none accepted"


async def rate_limits(context: Context) -> str:
    """A username that must wait must wait whatever address the headers assert."""
    name, target = await exhausted_username(context), context.target
    body = {"username": name.username, "password": WRONG}

    async def guess() -> Sequence[Answer]:
        asserted = Spoofs(chains=context.options.forwarded).all()
        return await asyncio.gather(*(target.send("POST", "/login", body=body, headers=lines) for lines in asserted))

    answers = await name.while_it_waits(guess)
    checked = sum(answer.status == 401 for answer in answers)
    if checked:
        raise Broken(f"{checked} of {len(answers)} asserted addresses allowed another guess; {_ADVICE}")
    return f"{len(answers)} asserted addresses, none allowed a guess"


async def hosts(context: Context) -> str:
    """The URL of the key set must not depend on the caller's Host."""
    target, tried = context.target, 0
    asserted: list[Lines] = [[header] for header in HOST_HEADERS]
    for lines in asserted:
        answer = await target.send("GET", METADATA, headers=[*lines, ("Cache-Control", "no-cache")])
        if ATTACKER_HOST in answer.body.decode("utf-8", "replace") or ATTACKER_HOST in str(answer.headers):
            raise Broken(f"the metadata depend on {lines[0][0]}: verifiers could load an attacker's keys")
        tried += 1
    return f"{tried} asserted hosts, none used"


async def overrides(context: Context) -> str:
    """The method and the path must be those of the request line."""
    password_user, target = await context.people.password_user(), context.target
    sid = (await password_user.sids() or ["none"])[0]
    for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        await target.send("GET", f"/sessions/{sid}", bearer=password_user.access, headers=[(name, "DELETE")])
        await target.send(
            "POST", f"/sessions/{sid}?_method=DELETE", bearer=password_user.access, headers=[(name, "DELETE")]
        )
        if not await password_user.is_logged_in():
            raise Broken(f"{name} changed the method: the session ended")
    for name in ("X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Uri", "X-Original-Uri", "X-Envoy-Original-Path"):
        answer = await target.send("GET", METADATA, bearer=password_user.access, headers=[(name, "/me")])
        if password_user.username in answer.body.decode("utf-8", "replace"):
            raise Broken(f"{name} changed the path")
        require_refusal(await target.send("GET", "/me", headers=[(name, METADATA)]), f"/me with {name}")
    return "3 asserted methods and 5 asserted paths, none used"


async def reflections(context: Context) -> str:
    """No answer may permit another origin to read it, nor repeat headers of the request, whatever these contain."""
    password_user, target = await context.people.password_user(), context.target
    for origin in (f"https://{ATTACKER_HOST}", "null", f"{target.url}.{ATTACKER_HOST}"):
        for method in ("GET", "OPTIONS"):
            asks = [("Origin", origin), ("Access-Control-Request-Method", "GET")]
            answer = await target.send(method, "/me", headers=asks)
            permitted = answer.headers.get("access-control-allow-origin")
            if permitted in {origin, "null", "*"}:
                raise Broken(f"any origin may read answers: the service permits {permitted}")
    for value in (
        f"{ATTACKER_HOST}%0d%0aX-Evil: 1",
        f"<script>{ATTACKER_HOST}</script>",
        f"{ATTACKER_HOST} and more",
    ):
        answer = await target.send(
            "GET", "/me", headers=[("X-Request-Id", value), ("Cookie", value), ("Referer", value)]
        )
        if ATTACKER_HOST in str(answer.headers) or ATTACKER_HOST in answer.body.decode("utf-8", "replace"):
            raise Broken("the answer repeats a header of the request")
    names = ("X-Auth-Subject", "X-Auth-Username", "X-Auth-Roles", "X-Auth-Amr")
    answer = await target.send(
        "GET", "/verify", bearer=password_user.access, headers=[(name, ATTACKER_HOST) for name in names]
    )
    if not answer.is_yes:
        raise NotTried(f"/verify answered {answer}")
    missing = [name for name in names if name.lower() not in answer.headers]
    if missing or ATTACKER_HOST in str(answer.headers):
        raise Broken(f"/verify does not overwrite the caller's headers ({', '.join(missing) or 'it repeats one'})")
    return "3 origins, 3 texts and 4 identity headers: no answer repeats them"


ATTACKS = (
    Attack("Asserted addresses at a login", addresses),
    Attack("Asserted addresses against a rate limit", rate_limits),
    Attack("Asserted hosts", hosts),
    Attack("Asserted methods and paths", overrides),
    Attack("Foreign origins and reflected headers", reflections),
)
