"""The accounts that a run makes for itself, through the public API. It changes no other accounts.

The usernames of a run are one prefix and a number, so that an operator finds them. Each account has a random
password, and some have an authenticator. At its end the run ends their sessions and removes their second factors, and
reports the accounts whose second factor it could not remove. The operator deletes the accounts: by default a request
deletes one only after a delay. The report has the command.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from service.attack.report import NotTried
from service.attack.target import Answer, Target
from service.factors import totp

WRONG = "no such password, ever"
MAX_TRIES = 6
"""Number of times that a request is sent while the service is too busy."""


@dataclass
class Person:
    """One account, with its secrets and the tokens of its session."""

    target: Target
    username: str
    password: str
    secret: str = ""
    """The secret of the authenticator; empty without one."""
    mfa_token: str = ""
    """The pending token of the enrolment."""
    access: str = ""
    refresh: str = ""
    recovery_codes: list[str] = field(default_factory=list)
    failures: int = 0
    """Wrong passwords given for this username. By default it has to wait after five (`KEYTURN_LIMIT_LOGIN`)."""
    skew: int = 1
    """Time steps before and after the current one whose codes are sent; 0 once the service refused such a code."""
    last_step: int = 0
    """The time step of the last code that counts as sent."""

    async def give_password(self, password: str | None = None, **more: object) -> Answer:
        body = {"username": self.username, "password": password or self.password, **more}
        if password is not None:
            self.failures += 1
        return await post_until_not_busy(self.target, "/login", body)

    async def pending(self) -> str:
        """Get a pending token with the right password."""
        answer = await self.give_password()
        if not isinstance(answer.members.get("mfa_token"), str):
            raise NotTried(f"/login answered {answer} to the right password of an account with a second factor")
        return str(answer.members["mfa_token"])

    async def log_in(self) -> Answer:
        """Log in with the password alone, for an account without a second factor."""
        answer = await self.give_password()
        self._keep(answer)
        return answer

    def expect_authenticator(self, answer: Answer) -> None:
        """Read the secret and the pending token from the answer of /signup or /enable-mfa."""
        uri = str(answer.members.get("provisioning_uri") or "")
        self.secret = parse_qs(urlsplit(uri).query).get("secret", [""])[0]
        self.mfa_token = str(answer.members.get("mfa_token") or "")
        if not self.secret or not self.mfa_token:
            raise NotTried("an enrolment had no provisioning_uri and mfa_token in its answer")

    async def enrol(self) -> None:
        """Confirm the authenticator with the earliest valid code, so that later codes stay unused."""
        for _ in range(2):
            answer = await self.give_code(await self.next_code(), self.mfa_token)
            if answer.is_yes:
                self._keep(answer)
                self.recovery_codes = [str(code) for code in answer.members.get("recovery_codes") or []]
                return
            self.skew = 0  # the service accepts only the code of the current step
        raise NotTried(f"/login-2fa answered {answer} to the first code of an authenticator")

    async def next_code(self) -> str:
        """Return the earliest valid code that was not sent yet, and count it as sent. Waits for it if necessary."""
        self.last_step = await self._earliest_unused_step()
        return self.code(self.last_step)

    async def unused_code(self) -> str:
        """Return the code that `next_code` would return, but do not count it as sent.

        It is for an attempt that must fail for another reason.
        """
        return self.code(await self._earliest_unused_step())

    async def _earliest_unused_step(self) -> int:
        while True:
            now = self.target.now()
            step = totp.step_at(now)
            to_come = totp.seconds_to_next(now)
            first = step - self.skew + (1 if to_come < 2 else 0)  # else the code could expire on its way
            chosen = max(first, self.last_step + 1)
            # In the first 2 s of a time step, a service whose clock is behind may refuse the code of the next step.
            is_sure = chosen <= step or to_come < totp.PERIOD - 2
            if chosen <= step + self.skew and is_sure:
                return chosen
            if self.target.budget.left < to_come + 5:
                raise NotTried("the next code comes after the end of the run (--budget-seconds)")
            await asyncio.sleep(min(to_come + 1, 2.5))

    def code(self, step: int) -> str:
        return totp.code_at(self.secret, step)

    def wrong_codes(self, count: int) -> list[str]:
        """Return codes that no time step near the current one has."""
        step = totp.step_at(self.target.now())
        near = {self.code(other) for other in range(step - 20, step + 25)}
        return [code for code in (f"{n:06d}" for n in range(100_000, 101_000)) if code not in near][:count]

    async def give_code(self, otp: str, mfa_token: str) -> Answer:
        return await post_until_not_busy(self.target, "/login-2fa", {"mfa_token": mfa_token, "otp": otp})

    async def is_logged_in(self, access: str | None = None) -> bool:
        return (await self.target.send("GET", "/me", bearer=access or self.access)).is_yes

    async def sids(self) -> list[str]:
        """Return the ids of the live sessions, the session of the access token first."""
        said = await self.target.send("GET", "/sessions", bearer=self.access)
        own_first = sorted(said.members.get("sessions", []), key=lambda session: not session.get("current"))
        return [str(session.get("sid")) for session in own_first]

    def _keep(self, answer: Answer) -> None:
        self.access = str(answer.members.get("access_token") or self.access)
        self.refresh = str(answer.members.get("refresh_token") or self.refresh)

    async def leave(self) -> bool:
        """Remove the second factor, which ends the sessions, or only end them. Returns whether no factor is left."""
        step = totp.step_at(self.target.now())
        for chosen in range(max(step, self.last_step + 1), step + self.skew + 1) if self.secret else ():
            body = {"username": self.username, "password": self.password, "token": self.code(chosen)}
            if (await post_until_not_busy(self.target, "/disable-mfa", body)).is_yes:
                return True
        await self.target.send("POST", "/logout?everywhere=true", bearer=self.access or "none")
        return not self.secret


class People:
    """Makes the accounts, and keeps those that several attacks share."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._shared: dict[str, Person] = {}
        self.name = f"attack-{secrets.token_hex(4)}"
        self.made: list[Person] = []

    async def sign_up(self, *, mfa: bool, email: str | None = None) -> Person:
        """Create an account; with `mfa` it has an unconfirmed authenticator. Raises `NotTried` if it cannot."""
        username, password = f"{self.name}-{len(self.made) + 1}", secrets.token_urlsafe(18)
        body = {"username": username, "password": password, "enable_mfa": mfa}
        if email is not None:
            body["email"] = email
        answer = await post_until_not_busy(self._target, "/signup", body)
        if answer.status == 429:
            wait = answer.headers.get("retry-after", "?")
            raise NotTried(
                f"no more accounts from this address for {wait} s: set KEYTURN_LIMIT_SIGNUP=off during the attack"
            )
        if answer.members.get("code") == "signup_closed":
            raise NotTried(
                "sign-up is closed, and the attack needs accounts: set KEYTURN_SIGNUP=open during the attack"
            )
        if not answer.is_yes:
            raise NotTried(f"/signup answered {answer}")
        person = Person(self._target, username, password)
        self.made.append(person)
        if mfa:
            person.expect_authenticator(answer)
        return person

    async def make_enrolled_user(self) -> Person:
        """Return a new user who is logged in with a second factor. All codes after the confirming one are unused."""
        person = await self.sign_up(mfa=True)
        await person.enrol()
        return person

    async def enrolled_user(self) -> Person:
        """Return the shared user who is logged in with a second factor. Do not end their session."""
        if "enrolled" not in self._shared:
            self._shared["enrolled"] = await self.make_enrolled_user()
        return self._shared["enrolled"]

    async def password_user(self) -> Person:
        """Return the shared user who is logged in with a password and has no second factor."""
        if "password" not in self._shared:
            password_user = self._shared["password"] = await self.sign_up(mfa=False)
            await password_user.log_in()
        password_user = self._shared["password"]
        if password_user.access and not await password_user.is_logged_in():
            await password_user.log_in()  # an earlier attack ended the session, and reported that
        if not password_user.access or not password_user.refresh:
            raise NotTried(
                "the attack needs a session of the password alone, which the service refuses (KEYTURN_REQUIRE_MFA?)"
            )
        return password_user

    async def unconfirmed_user(self) -> Person:
        """Return the shared user who has begun an enrolment and not confirmed it."""
        if "unconfirmed" not in self._shared:
            self._shared["unconfirmed"] = await self.sign_up(mfa=True)
        return self._shared["unconfirmed"]

    @property
    def deletion_command(self) -> str:
        """The command for the operator, because by default no request deletes an account at once."""
        return f"To delete them, run where the service runs: keyturn users delete --prefix {self.name}-"

    async def leave(self) -> list[str]:
        """End the sessions, remove the second factors, and return sentences about the accounts, which stay."""
        if not self.made:
            return ["No account was made."]
        kept = [person.username for person in self.made if not await person.leave()]
        first, last = self.made[0].username, self.made[-1].username
        accounts = f"1 account, {first}" if first == last else f"{len(self.made)} accounts, {first} to {last}"
        said = [f"Left behind: {accounts}. {self.deletion_command}"]
        if kept:
            said.append(f"These still have a second factor, which the run could not remove: {', '.join(kept)}.")
        return said


async def post_until_not_busy(
    target: Target, path: str, body: Mapping[str, object], *, headers: Sequence[tuple[str, str]] = ()
) -> Answer:
    """Send a POST, and repeat it while the service is busy (503)."""
    for _ in range(MAX_TRIES - 1):
        answer = await target.send("POST", path, body=body, headers=headers)
        if answer.status != 503:
            return answer
        await asyncio.sleep(0.3)
    return await target.send("POST", path, body=body, headers=headers)
