"""Links: forged tokens are refused, a GET consumes nothing, and a request for a link reveals nothing about a user.

A run without `--mail` has no genuine link. With it, the attacks of `mailbox` use genuine ones.
"""

import asyncio
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from service.attack.campaign import Attack, Context, require_refusal
from service.attack.enumeration import said, unknown_username
from service.attack.forged import decode, encode
from service.attack.headers import ATTACKER_HOST, HOST_HEADERS
from service.attack.people import Person, post_until_not_busy
from service.attack.report import Broken, NotTried
from service.attack.target import Answer, Target

RESET = "/password-reset"
PREFIX, REFRESH_PREFIX = "ktl_", "ktr_"
MAC_BYTES = 32
ADDRESS_DOMAIN = "attack.invalid"
"""All e-mail addresses of a run are in this domain or below it.

No message can arrive there (RFC 6761 section 6.4).
"""

MAX_REQUESTS = 20
"""The attack succeeds if more requests for links from one address are answered. The service answers ten in an hour;
the rest is tolerance."""

_CODES_BEHIND_THE_TOKEN = {"weak_password", "breached_password", "username_taken", "email_taken"}
"""Refusals that show that the token was accepted."""

_LIMITED = "this address had too many requests for links before: wait an hour"


def consumers(context: Context) -> dict[str, dict[str, object]]:
    """Return the routes that consume the token of a link, each with the rest of its body."""
    password = secrets.token_urlsafe(18)
    new_account = {"username": f"{context.people.name}-0", "password": password, "enable_mfa": True}
    return {
        "/password-reset/confirm": {"new_password": password},
        "/email/confirm": {},
        "/email/cancel": {},
        "/signup": new_account,
    }


async def give_token(target: Target, path: str, token: str, rest: Mapping[str, object]) -> Answer:
    return await target.post(path, {**rest, ("invitation" if path == "/signup" else "token"): token})


async def require_refused_everywhere(context: Context, tokens: Mapping[str, str], *, but: str = "") -> int:
    """Give each token to each route except `but`; return how many were refused.

    Raises `Broken` if one is accepted, or answered with a failure.
    """
    routes, count = consumers(context), 0
    for path, rest in routes.items():
        for what, token in tokens.items() if path != but else ():
            answer = await give_token(context.target, path, token, rest)
            require_refusal(answer, f"{what} at {path}")
            if answer.code in _CODES_BEHIND_THE_TOKEN:
                raise Broken(f"{what} was accepted at {path}, which then refused something else ({answer})")
            count += 1
    return count


def altered(genuine: str) -> dict[str, str]:
    """Return altered copies of a genuine token: one character changed, cut, lengthened, or in another spelling."""
    body = genuine.removeprefix(PREFIX)
    texts = {
        f"character {at} changed": body[:at] + ("A" if body[at] != "A" else "B") + body[at + 1 :]
        for at in range(0, len(body) - 1, 11)
    }
    texts |= {"cut by one": body[:-1], "cut by a half": body[: len(body) // 2], "the MAC cut off": body[:-43]}
    texts |= {"padded": f"{body}=", "one more": f"{body}A", "in capitals": body.upper(), "twice": body * 2}
    return {what: PREFIX + text for what, text in texts.items()} | {"no prefix": body}


def forged(sub: str, address: str, now: int) -> Iterator[tuple[str, str]]:
    """Yield tokens with the claims of each purpose, or none, and no MAC or one that anybody can compute.

    Then yield texts that are no tokens. No text is yielded twice.
    """
    hour = now + 3600
    claims: dict[str, list[Any]] = {
        **{f"a reset, version {version}": [now, hour, sub, version] for version in range(4)},
        "a confirmation": [now, hour, sub, address],
        "a cancellation": [now, hour, sub, encode(hashlib.sha256(address.encode()).digest())],
        "an invitation": [now, hour, secrets.token_hex(16), None],
        "no claims": [],
    }
    for what, values in claims.items():
        body = json.dumps(values, separators=(",", ":")).encode()
        macs = {
            "no": b"",
            "a zero": bytes(32),
            "a SHA-256 for a": hashlib.sha256(body).digest(),
            "an empty or zero key's": hmac.digest(b"", body, "sha256"),  # HMAC fills a short key up with zeros
            "a guessed key's": hmac.digest(b"keyturn", body, "sha256"),
        }
        for kind, mac in macs.items():
            yield f"{what} with {kind} MAC", PREFIX + encode(body + mac)
    for what, text in {
        "nothing but the prefix": PREFIX, "null": "null", "a space": " ", "zeros": PREFIX + encode(bytes(64)),
        "JSON": PREFIX + "[]", "a NUL": f"{PREFIX}\0", "2,048 characters": "A" * 2048, "a JWT": "e30.e30.e30",
        "not ASCII": f"{PREFIX}\uff21\u212a",
    }.items():  # fmt: skip
        yield what, text


def foreign(others: Mapping[str, str], *, refresh: str, body: bytes) -> dict[str, str]:
    """Return the tokens of other kinds with and without the prefix of links.

    Add the claims of a link (`body`) with the MAC of the refresh token, if that token ends with one.
    """
    tokens = dict(others)
    for what, token in others.items():
        tokens[f"{what} with the prefix of links"] = PREFIX + token.removeprefix(REFRESH_PREFIX)
    data = decode_or_none(refresh.removeprefix(REFRESH_PREFIX))
    if data is not None and len(data) > MAC_BYTES:
        tokens["a reset with the MAC of a refresh token"] = PREFIX + encode(body + data[-MAC_BYTES:])
    return tokens


async def forgeries(context: Context) -> str:
    """Forged tokens, and tokens of other kinds with and without the prefix of links."""
    password_user, enrolled_user = await context.people.password_user(), await context.people.enrolled_user()
    sub = str((await context.target.send("GET", "/me", bearer=password_user.access)).members.get("sub") or "")
    now = int(context.target.now().timestamp())
    tokens = dict(forged(sub, f"{password_user.username}@{ADDRESS_DOMAIN}", now))
    others = {
        "an access token": password_user.access,
        "a refresh token": password_user.refresh,
        "a pending token": await enrolled_user.pending(),
        "a recovery code": next(iter(enrolled_user.recovery_codes), "none"),
        "a username": password_user.username,
        "a sub": sub or "none",
    }
    body = json.dumps([now, now + 3600, sub, 0], separators=(",", ":")).encode()
    tokens |= foreign(others, refresh=password_user.refresh, body=body)
    count = await require_refused_everywhere(context, tokens)
    answer = await password_user.log_in()
    if answer.status == 429 or (answer.status == 503 and not answer.is_failure):
        raise NotTried(f"the tokens were refused, but /login then answered {answer}, so what they did is not known")
    if not answer.is_yes:
        raise Broken(f"a forged token was refused but changed a password or disabled an account ({answer})")
    return f"{len(set(tokens.values()))} tokens at {count // len(tokens)} routes refused"


def decode_or_none(text: str) -> bytes | None:
    try:
        return decode(text)
    except ValueError:
        return None


async def reads(context: Context) -> str:
    """A GET or HEAD must be refused where a link is requested or used, and where a deletion is taken back.

    Scanners of messages follow links.
    """
    target, count = context.target, 0
    for path in (*consumers(context), RESET, "/me/restore"):
        for method in ("GET", "HEAD"):
            for query in ("", f"?token={PREFIX}AAAA", f"?invitation={PREFIX}AAAA&username=nobody"):
                require_refusal(await target.send(method, path + query), f"{method} {path}")
                count += 1
    return f"{count} refused"


async def sign_up_as_configured(context: Context) -> str:
    """Find out whether sign-up is open, and if it is not, try to sign up without a genuine invitation."""
    target, rest = context.target, consumers(context)["/signup"]
    spent_before = target.budget.spent
    invented = PREFIX + encode(secrets.token_bytes(64))
    with_invitation = await target.post("/signup", {**rest, "invitation": invented})
    require_refusal(with_invitation, "a sign-up with an invented invitation")
    weak = {**rest, "password": "short"}  # refused for its password where sign-up is open: makes no account
    without = await target.post("/signup", weak)
    require_refusal(without, "a sign-up with a short password")
    if without.code != "signup_closed":
        if with_invitation.code == "signup_closed":
            raise Broken("sign-up is closed with an invitation and open without one")
        return "sign-up is open; an invented invitation is refused"
    tries: list[tuple[str, dict[str, object]]] = [
        ("an empty invitation", {**rest, "invitation": ""}),
        ("no invitation", {**rest, "invitation": None}),
        ("an e-mail address", {**rest, "email": f"{rest['username']}@{ADDRESS_DOMAIN}"}),
        ("roles", {**rest, "roles": ["keyturn-admin"]}),
        ("another spelling", {**rest, "username": f" {str(rest['username']).upper()} "}),
        ("an invitation that is true", {**rest, "invitation": True}),
    ]
    for what, body in tries:
        require_refusal(await target.post("/signup", body), f"closed sign-up with {what}")
    for name in ("X-HTTP-Method-Override", "X-Original-URL"):
        answer = await target.send("POST", "/signup", body=rest, headers=[(name, "/admin/users")])
        require_refusal(answer, f"closed sign-up with {name}")
    mode = "closed" if with_invitation.code == "signup_closed" else "by invitation"
    return f"sign-up is {mode}; {target.budget.spent - spent_before} requests refused"


async def request_link(target: Target, name: str, headers: list[tuple[str, str]] | None = None) -> Answer:
    return await post_until_not_busy(target, RESET, {"username": name}, headers=headers or [])


async def answers(context: Context) -> str:
    """A request for a link must get one answer, whatever the name and whatever host the headers assert."""
    people, target = context.people, context.target
    known: list[Person] = [await people.enrolled_user(), await people.password_user()]
    unknown = unknown_username()
    hosts = [(name, value) for name, value in HOST_HEADERS if name != "Host"]
    asks: list[tuple[str, str, list[tuple[str, str]]]] = [
        ("an unknown user", unknown, []),
        ("a user with a second factor", known[0].username.upper(), []),
        ("a user without a second factor", known[1].username, []),
        ("an unknown address of 128 characters", f"{unknown}@{'a' * 60}.{'b' * 36}.{ADDRESS_DOMAIN}"[-128:], []),
        ("an asserted Host", unknown, [("Host", ATTACKER_HOST)]),
        ("asserted hosts", known[1].username, hosts),
    ]
    given = [(case, await request_link(target, name, headers)) for case, name, headers in asks]
    if any(answer.status == 429 for _, answer in given):
        raise NotTried(_LIMITED)
    (first, expected), *others = given
    for case, answer in others:
        if said(answer) != said(expected):
            raise Broken(f"{RESET} distinguishes {first!r} ({expected}) from {case!r} ({answer})")
    for case, answer in given:
        if answer.is_failure:
            raise Broken(f"{RESET} answered {case} with a failure ({answer})")
        if ATTACKER_HOST in answer.body.decode("utf-8", "replace") + str(answer.headers):
            raise Broken(f"the answer repeats the host of the request ({case})")
    if expected.status == 404:
        return f"{len(given)} answers, all 404: the service sends no messages"
    if not expected.is_yes:
        raise NotTried(f"{RESET} answered {expected} to a username")
    return f"{len(given)} answers, all equal"


async def limit(context: Context) -> str:
    """Requests for links must be refused after some, sent at once or in turn, whatever address the headers assert."""
    target = context.target
    first = await request_link(target, unknown_username())
    if first.status == 404:
        return "404: the service sends no messages"
    requests = (request_link(target, unknown_username()) for _ in range(MAX_REQUESTS))
    given = [first, *await asyncio.gather(*requests)]
    asserted = [("X-Forwarded-For", "198.51.100.7"), ("Forwarded", "for=198.51.100.7"), ("X-Real-IP", "198.51.100.7")]
    given += [await request_link(target, unknown_username(), [header]) for header in asserted]
    accepted = sum(answer.is_yes for answer in given)
    if accepted > MAX_REQUESTS or any(answer.is_yes for answer in given[-len(asserted) :]):
        raise Broken(f"{accepted} of {len(given)} requests for links from one address were answered")
    failed = [answer for answer in given if answer.is_failure]
    if failed:
        raise Broken(f"{len(failed)} of {len(given)} requests for links were answered with a failure ({failed[0]})")
    return f"{accepted} of {len(given)} answered, then a wait"


ATTACKS = (
    Attack("Sign-up without a genuine invitation", sign_up_as_configured),
    Attack("Forged and foreign tokens of links", forgeries),
    Attack("GET and HEAD of links", reads),
    Attack("Answers to requests for a link", answers),
    Attack("Requests for links without end", limit),
)
