"""Refresh: a session has one valid refresh token, and an ended session stays ended.

No page of another origin can use the cookies of a session.
"""

import asyncio
import time
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from service.attack.campaign import Attack, Context, require_refusal
from service.attack.lines import Post, burst
from service.attack.people import Person
from service.attack.report import Broken, NotTried
from service.attack.target import METADATA, Answer, Target

PARALLEL_REQUESTS = 24
COOKIE = "__Host-keyturn-refresh"
DEVICE_COOKIE = "__Host-keyturn-device"
_IN_COOKIE = ("Keyturn-Session", "cookie")
_ATTACKER = "https://attacker.invalid"
NOTICE_SECONDS = 3.0
"""Seconds after which /verify must refuse the tokens of an ended session."""


@dataclass
class Session:
    """The tokens that one program of a user holds."""

    target: Target
    access: str
    refresh: str

    async def renew(self, token: str | None = None) -> Answer:
        form = {"grant_type": "refresh_token", "refresh_token": token or self.refresh}
        return await self.target.send("POST", "/token", form=form)

    async def step(self) -> str:
        """Refresh as a correct program does, and return the replaced token."""
        answer, replaced = await self.renew(), self.refresh
        if not answer.is_yes or not answer.members.get("refresh_token"):
            raise NotTried(f"/token answered {answer} to a valid refresh token")
        self.access, self.refresh = str(answer.members["access_token"]), str(answer.members["refresh_token"])
        return replaced

    async def require_ended(self, why: str) -> None:
        """Raise `Broken` if any of the tokens is still accepted."""
        require_refusal(await self.renew(), f"{why}: the refresh token")
        require_refusal(await self.target.send("GET", "/me", bearer=self.access), f"{why}: the access token at /me")
        deadline = time.monotonic() + NOTICE_SECONDS
        while (answer := await self.target.send("GET", "/verify", bearer=self.access)).is_yes:
            if time.monotonic() > deadline:
                raise Broken(f"{why}: /verify still accepts the access token after {NOTICE_SECONDS:.0f} s")
            await asyncio.sleep(0.1)
        require_refusal(answer, f"{why}: the access token at /verify")


async def opened(person: Person) -> Session:
    answer = await person.give_password()
    if not answer.members.get("refresh_token"):
        raise NotTried(f"/login answered {answer} to the right password, without a refresh token")
    return Session(person.target, str(answer.members["access_token"]), str(answer.members["refresh_token"]))


def _posts(session: Session, count: int) -> list[Post]:
    form = urlencode({"grant_type": "refresh_token", "refresh_token": session.refresh})
    return [Post("/token", form)] * count


async def race(context: Context) -> str:
    """Simultaneous refreshes, of two tabs or of an attacker and the user, must all get one successor."""
    session = await opened(await context.people.password_user())
    answers = await burst(context.target, _posts(session, PARALLEL_REQUESTS))
    successors = {str(answer.members["refresh_token"]) for answer in answers if answer.members.get("refresh_token")}
    failed = [answer for answer in answers if answer.is_failure]
    if len(successors) > 1:
        raise Broken(f"one refresh token got {len(successors)} different successors")
    if failed:
        raise Broken(f"{len(failed)} of {PARALLEL_REQUESTS} refreshes were answered with a failure ({failed[0]})")
    if not successors:
        raise NotTried(f"/token answered {answers[0]} to a valid refresh token")
    session.refresh = successors.pop()
    if not (answer := await session.renew()).is_yes:
        raise Broken(f"after {PARALLEL_REQUESTS} refreshes at once the user cannot refresh the session ({answer})")
    return f"{PARALLEL_REQUESTS} at once, 1 successor"


async def reuse(context: Context) -> str:
    """A refresh token of two generations ago must be refused and end the session: it was probably copied."""
    session = await opened(await context.people.password_user())
    oldest = await session.step()
    await session.step()
    require_refusal(await session.renew(oldest), "a refresh token of two generations ago")
    await session.require_ended("after the use of an old refresh token")
    return "refused, and the session ended"


async def log_out(context: Context) -> str:
    password_user, target = await context.people.password_user(), context.target
    sessions = [await opened(password_user) for _ in range(2)]
    ended = await target.send("POST", "/logout", bearer=sessions[0].access)
    revoked = await target.send("POST", "/revoke", form={"token": sessions[1].refresh})
    for session, answer, how in zip(sessions, (ended, revoked), ("/logout", "/revoke"), strict=True):
        if not answer.is_yes:
            raise NotTried(f"{how} answered {answer}")
        await session.require_ended(f"after {how}")
    return "2 sessions ended"


async def log_out_race(context: Context) -> str:
    """A refresh during the logout of its session must not yield tokens that stay valid after it."""
    session, target = await opened(await context.people.password_user()), context.target
    posts = _posts(session, PARALLEL_REQUESTS)
    posts.insert(PARALLEL_REQUESTS // 3, Post("/logout", "", bearer=session.access))
    answers = await burst(target, posts)
    if not answers[PARALLEL_REQUESTS // 3].is_yes:
        raise NotTried(f"/logout answered {answers[PARALLEL_REQUESTS // 3]}")
    granted = [answer for answer in answers if answer.members.get("refresh_token")]
    for answer in granted[:3] + granted[-1:]:
        late = Session(target, str(answer.members["access_token"]), str(answer.members["refresh_token"]))
        await late.require_ended("granted during the logout of the session")
    await session.require_ended("logged out during refreshes")
    return f"{len(granted)} of {PARALLEL_REQUESTS} granted, none valid after the logout"


async def password_change(context: Context) -> str:
    """A new password must end the other sessions; a new second factor must end the sessions without one."""
    person, target = await context.people.sign_up(mfa=False), context.target
    other, own = await opened(person), await opened(person)
    new = f"{person.password}-new"
    body = {"current_password": person.password, "new_password": new}
    if not (changed := await target.post("/password", body, bearer=own.access)).is_yes:
        raise NotTried(f"/password answered {changed}")
    person.password, person.access = new, own.access
    await other.require_ended("after a change of password")
    begun = await target.post("/enable-mfa", {"password": new}, bearer=own.access)
    if not begun.is_yes:
        raise NotTried(f"/enable-mfa answered {begun}")
    person.expect_authenticator(begun)
    await person.enrol()
    await own.require_ended("after a second factor was confirmed")
    return "the earlier sessions ended, both times"


async def cookie(context: Context) -> str:
    """A page of another origin must not use the refresh cookie of a browser, nor set it; scripts must not read it."""
    person, target = await context.people.password_user(), context.target
    own, foreign = await _origins(target)
    body = {"username": person.username, "password": person.password}
    answer = await target.send("POST", "/login", body=body, headers=[_IN_COOKIE, own])
    jar, form = _stored(answer, COOKIE, "refresh_token"), {"grant_type": "refresh_token"}
    tries = {
        "without the header": [own, jar],
        "without an origin": [_IN_COOKIE, jar],
        "twice": [_IN_COOKIE, own, ("Cookie", f"{jar[1]}; {jar[1]}")],
        **{f"from the origin {origin[1]}": [_IN_COOKIE, origin, jar] for origin in foreign},
    }
    for how, lines in tries.items():
        require_refusal(await target.send("POST", "/token", form=form, headers=lines), f"the refresh cookie {how}")
    for method, path in (("GET", "/me"), ("GET", "/verify"), ("POST", "/logout")):
        answer = await target.send(method, path, headers=[_IN_COOKIE, own, jar])
        require_refusal(answer, f"{path} with the refresh cookie alone")
    answer = await target.send("POST", "/login", body=body, headers=[_IN_COOKIE, ("Origin", _ATTACKER)])
    if "set-cookie" in answer.headers:
        raise Broken("a page of another origin can log a browser in to an account of its own")
    renewed = await target.send("POST", "/token", form=form, headers=[_IN_COOKIE, own, jar])
    if not renewed.is_yes:
        raise Broken(f"refused requests ended the session of the browser ({renewed})")
    await target.send("POST", "/logout", bearer=str(renewed.members.get("access_token")))
    return f"{len(tries) + 4} refused"


async def device_cookie(context: Context) -> str:
    """The device cookie replaces no code of another page's login, opens nothing by itself, and breaks no login."""
    person, target = await context.people.enrolled_user(), context.target
    own, foreign = await _origins(target)
    if not person.recovery_codes:
        raise NotTried("no recovery code is left for a login that remembers the device")
    proof = {
        "mfa_token": await person.pending(),
        "recovery_code": person.recovery_codes.pop(),
        "remember_device": True,
    }
    answer = await target.send("POST", "/login-2fa", body=proof, headers=[_IN_COOKIE, own])
    jar = _stored(answer, DEVICE_COOKIE, "device_token")
    body = {"username": person.username, "password": person.password}
    tries = {
        "without the header": [own, jar],
        "without an origin": [_IN_COOKIE, jar],
        "twice": [_IN_COOKIE, own, ("Cookie", f"{jar[1]}; {jar[1]}")],
        "with a changed value": [_IN_COOKIE, own, ("Cookie", f"{jar[1]}A")],
    }
    for how, lines in tries.items():
        tried = await target.send("POST", "/login", body=body, headers=lines)
        if tried.members.get("access_token"):
            raise Broken(f"the device cookie {how} replaces the second factor")
        if not tried.is_yes and tried.status not in {429, 503}:
            raise Broken(f"the device cookie {how} makes a login fail ({tried}): a planted one locks the user out")
    for origin in foreign:
        tried = await target.send("POST", "/login", body=body, headers=[_IN_COOKIE, origin, jar])
        require_refusal(tried, f"a login with the device cookie from the origin {origin[1]}")
    for method, path in (("GET", "/me"), ("GET", "/verify")):
        alone = await target.send(method, path, headers=[_IN_COOKIE, own, jar])
        require_refusal(alone, f"{path} with the device cookie alone")
    await target.send("POST", "/logout", bearer=str(answer.members.get("access_token")))
    return f"{len(tries) + len(foreign) + 2} without effect"


async def _origins(target: Target) -> tuple[tuple[str, str], list[tuple[str, str]]]:
    """Return the header `Origin` of the issuer's own pages, and those of pages that may not use its cookies."""
    issuer = urlsplit(str((await target.send("GET", METADATA)).members.get("issuer") or ""))
    own = f"{issuer.scheme}://{issuer.netloc}"
    foreign = (_ATTACKER, "null", f"{own}.attacker.invalid", f"{issuer.scheme}://attacker.{issuer.netloc}")
    return ("Origin", own), [("Origin", origin) for origin in foreign]


def _stored(answer: Answer, name: str, member: str) -> tuple[str, str]:
    """Return the header `Cookie` of a browser that got this answer. Raises `Broken` if scripts can read the token."""
    # Several lines are joined by commas, which these cookies do not have.
    lines = [line.strip() for line in answer.headers.get("set-cookie", "").split(",")]
    given = next((line for line in lines if line.startswith(f"{name}=")), "")
    if answer.is_yes and answer.members.get(member):
        raise Broken(f"the {member} of a cookie session is in the body: scripts can read it")
    if not answer.is_yes or not given:
        raise NotTried(f"the login of a browser was answered with {answer}, without the cookie {name}")
    value, *attributes = (part.strip() for part in given.split(";"))
    missing = {"secure", "httponly", "samesite=strict", "path=/"} - {one.lower() for one in attributes}
    if missing or "domain=" in given.lower():
        raise Broken(f"the cookie is set without {', '.join(sorted(missing)) or 'being bound to its host'}")
    return "Cookie", value


ATTACKS = (
    Attack("The refresh cookie of a browser", cookie),
    Attack("The device cookie of a browser", device_cookie),
    Attack("One refresh token, many refreshes at once", race),
    Attack("A refresh token of two generations ago", reuse),
    Attack("Tokens of an ended session", log_out),
    Attack("Refreshes during a logout", log_out_race),
    Attack("Sessions from before a new password or factor", password_change),
)
