"""Refresh: a session has one refresh token at a time, and what ended stays ended."""

import asyncio
import time
from dataclasses import dataclass
from urllib.parse import urlencode

from service.attack.campaign import Attack, Context, require_refusal
from service.attack.lines import Post, burst
from service.attack.people import Person
from service.attack.report import Broken, NotTried
from service.attack.target import Answer, Target

PARALLEL_REQUESTS = 24
NOTICE_SECONDS = 3.0
"""Seconds until a gateway that asks /verify must have noticed."""


@dataclass
class Session:
    """What one program of somebody's holds."""

    target: Target
    access: str
    refresh: str

    async def renew(self, token: str | None = None) -> Answer:
        form = {"grant_type": "refresh_token", "refresh_token": token or self.refresh}
        return await self.target.send("POST", "/token", form=form)

    async def step(self) -> str:
        """Refresh as an honest program does; the token that was replaced."""
        answer, replaced = await self.renew(), self.refresh
        if not answer.is_yes or not answer.members.get("refresh_token"):
            raise NotTried(f"a good refresh token was answered {answer}")
        self.access, self.refresh = str(answer.members["access_token"]), str(answer.members["refresh_token"])
        return replaced

    async def require_ended(self, why: str) -> None:
        """Raises `Broken` if any of its tokens is good for anything."""
        require_refusal(await self.renew(), f"{why}: the refresh token")
        require_refusal(await self.target.send("GET", "/me", bearer=self.access), f"{why}: the access token at /me")
        deadline = time.monotonic() + NOTICE_SECONDS
        while (answer := await self.target.send("GET", "/verify", bearer=self.access)).is_yes:
            if time.monotonic() > deadline:
                raise Broken(f"{why}: the access token is still good at /verify after {NOTICE_SECONDS:.0f} s")
            await asyncio.sleep(0.1)
        require_refusal(answer, f"{why}: the access token at /verify")


async def opened(person: Person) -> Session:
    answer = await person.give_password()
    if not answer.members.get("refresh_token"):
        raise NotTried(f"the right password was answered {answer} and no refresh token")
    return Session(person.target, str(answer.members["access_token"]), str(answer.members["refresh_token"]))


def _posts(session: Session, count: int) -> list[Post]:
    form = urlencode({"grant_type": "refresh_token", "refresh_token": session.refresh})
    return [Post("/token", form)] * count


async def race(context: Context) -> str:
    """Two tabs, or a thief and his victim: one successor, whoever asks."""
    session = await opened(await context.people.password_user())
    answers = await burst(context.target, _posts(session, PARALLEL_REQUESTS))
    successors = {str(answer.members["refresh_token"]) for answer in answers if answer.members.get("refresh_token")}
    failed = [answer for answer in answers if answer.is_failure]
    if len(successors) > 1:
        raise Broken(f"one refresh token was answered with {len(successors)} different successors")
    if failed:
        raise Broken(f"{len(failed)} of {PARALLEL_REQUESTS} refreshes were answered with a failure ({failed[0]})")
    if not successors:
        raise NotTried(f"a good refresh token was answered {answers[0]}")
    session.refresh = successors.pop()
    if not (answer := await session.renew()).is_yes:
        raise Broken(f"after {PARALLEL_REQUESTS} refreshes at once the session is lost to its owner ({answer})")
    return f"{PARALLEL_REQUESTS} at once, 1 successor"


async def reuse(context: Context) -> str:
    """A genuine token of two generations ago was copied: the session ends for both."""
    session = await opened(await context.people.password_user())
    oldest = await session.step()
    await session.step()
    require_refusal(await session.renew(oldest), "a refresh token of two generations ago")
    await session.require_ended("after an old refresh token was shown")
    return "refused, and the session ended"


async def log_out(context: Context) -> str:
    password_user, target = await context.people.password_user(), context.target
    sessions = [await opened(password_user) for _ in range(2)]
    ended = await target.send("POST", "/logout", bearer=sessions[0].access)
    revoked = await target.send("POST", "/revoke", form={"token": sessions[1].refresh})
    for session, answer, how in zip(sessions, (ended, revoked), ("/logout", "/revoke"), strict=True):
        if not answer.is_yes:
            raise NotTried(f"{how} was answered {answer}")
        await session.require_ended(f"after {how}")
    return "2 sessions ended at once"


async def log_out_race(context: Context) -> str:
    """A refresh that meets the logout of its session brings nothing that outlives it."""
    session, target = await opened(await context.people.password_user()), context.target
    posts = _posts(session, PARALLEL_REQUESTS)
    posts.insert(PARALLEL_REQUESTS // 3, Post("/logout", "", bearer=session.access))
    answers = await burst(target, posts)
    if not answers[PARALLEL_REQUESTS // 3].is_yes:
        raise NotTried(f"/logout was answered {answers[PARALLEL_REQUESTS // 3]}")
    granted = [answer for answer in answers if answer.members.get("refresh_token")]
    for answer in granted[:3] + granted[-1:]:
        late = Session(target, str(answer.members["access_token"]), str(answer.members["refresh_token"]))
        await late.require_ended("granted while the session was logged out")
    await session.require_ended("logged out during refreshes")
    return f"{len(granted)} of {PARALLEL_REQUESTS} granted, none outlived it"


async def password_change(context: Context) -> str:
    """A new password ends the other sessions; a second factor ends those that had none."""
    person, target = await context.people.sign_up(mfa=False), context.target
    other, own = await opened(person), await opened(person)
    new = f"{person.password}-new"
    body = {"current_password": person.password, "new_password": new}
    if not (changed := await target.post("/password", body, bearer=own.access)).is_yes:
        raise NotTried(f"a change of password was answered {changed}")
    person.password, person.access = new, own.access
    await other.require_ended("after a change of password")
    begun = await target.post("/enable-mfa", {"password": new}, bearer=own.access)
    if not begun.is_yes:
        raise NotTried(f"/enable-mfa was answered {begun}")
    person.expect_authenticator(begun)
    await person.enrol()
    await own.require_ended("after a second factor was proved")
    return "the other sessions ended, both times"


ATTACKS = (
    Attack("One refresh token, many refreshes at once", race),
    Attack("A refresh token of two generations ago", reuse),
    Attack("Tokens of a session that was ended", log_out),
    Attack("Refreshes at the moment of a logout", log_out_race),
    Attack("Sessions of before a new password or factor", password_change),
)
