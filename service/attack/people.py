"""The accounts that a run makes for itself, by the front door; it touches no others.

All of a run have one name and a number, so that an operator finds them. Each has random passwords, and an
authenticator if it asked for one. At its end a run ends their sessions and removes their second factors; deleting the
accounts is the operator's, since no request from outside can do it, and the report has the command.
"""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from service import totp
from service.attack.report import NotTried
from service.attack.target import Answer, Target

WRONG = "no such password, ever"
MAX_TRIES = 6
"""Of a request that the service is too busy for."""


@dataclass
class Person:
    """One account, what its owner knows and what his programs hold."""

    target: Target
    username: str
    password: str
    secret: str = ""
    """Of the authenticator; empty without one."""
    mfa_token: str = ""
    """The pending token of the signup."""
    access: str = ""
    refresh: str = ""
    recovery_codes: list[str] = field(default_factory=list)
    failures: int = 0
    """Wrong passwords given in this name: a limit may count five."""
    skew: int = 1
    last_step: int = 0

    async def give_password(self, password: str | None = None, **more: object) -> Answer:
        body = {"username": self.username, "password": password or self.password, **more}
        if password is not None:
            self.failures += 1
        return await post_until_not_busy(self.target, "/login", body)

    async def pending(self) -> str:
        """A pending token for the right password."""
        answer = await self.give_password()
        if not isinstance(answer.members.get("mfa_token"), str):
            raise NotTried(f"the right password of an account with a second factor was answered {answer}")
        return str(answer.members["mfa_token"])

    async def log_in(self) -> Answer:
        """By the password alone, for an account without a second factor."""
        answer = await self.give_password()
        self._keep(answer)
        return answer

    def expect_authenticator(self, answer: Answer) -> None:
        """Scan what /signup or /enable-mfa shows."""
        uri = str(answer.members.get("provisioning_uri") or "")
        self.secret = parse_qs(urlsplit(uri).query).get("secret", [""])[0]
        self.mfa_token = str(answer.members.get("mfa_token") or "")
        if not self.secret or not self.mfa_token:
            raise NotTried("asking for a second factor brought no provisioning_uri and mfa_token")

    async def enrol(self) -> None:
        """Prove the authenticator with the earliest code that is good, so that later ones are left."""
        for _ in range(2):
            answer = await self.give_code(await self.next_code(), self.mfa_token)
            if answer.is_yes:
                self._keep(answer)
                self.recovery_codes = [str(code) for code in answer.members.get("recovery_codes") or []]
                return
            self.skew = 0  # only the code of this very moment counts there
        raise NotTried(f"the first code of an authenticator was answered {answer}")

    async def next_code(self) -> str:
        """The earliest good code that was not given yet; waits for it if it must."""
        self.last_step = await self._good_step()
        return self.code(self.last_step)

    async def unused_code(self) -> str:
        """The same, for an attempt that must fail for another reason: it stays the next one."""
        return self.code(await self._good_step())

    async def _good_step(self) -> int:
        while True:
            now = self.target.now()
            step = totp.step_at(now)
            to_come = totp.seconds_to_next(now)
            first = step - self.skew + (1 if to_come < 2 else 0)  # it would be too old before it has arrived
            chosen = max(first, self.last_step + 1)
            is_sure = chosen <= step or to_come < totp.PERIOD - 2  # the service's clock may be a second behind
            if chosen <= step + self.skew and is_sure:
                return chosen
            if self.target.budget.left < to_come + 5:
                raise NotTried("the next code comes too late for the budget of seconds (--budget-seconds)")
            await asyncio.sleep(min(to_come + 1, 2.5))

    def code(self, step: int) -> str:
        return totp.code_at(self.secret, step)

    def wrong_codes(self, count: int) -> list[str]:
        """Codes that no step near this moment has."""
        step = totp.step_at(self.target.now())
        near = {self.code(other) for other in range(step - 20, step + 25)}
        return [code for code in (f"{n:06d}" for n in range(100_000, 101_000)) if code not in near][:count]

    async def give_code(self, otp: str, mfa_token: str) -> Answer:
        return await post_until_not_busy(self.target, "/login-2fa", {"mfa_token": mfa_token, "otp": otp})

    async def is_logged_in(self, access: str | None = None) -> bool:
        return (await self.target.send("GET", "/me", bearer=access or self.access)).is_yes

    async def sids(self) -> list[str]:
        """Of his live sessions, the one of his access token first."""
        said = await self.target.send("GET", "/sessions", bearer=self.access)
        own_first = sorted(said.members.get("sessions", []), key=lambda session: not session.get("current"))
        return [str(session.get("sid")) for session in own_first]

    def _keep(self, answer: Answer) -> None:
        self.access = str(answer.members.get("access_token") or self.access)
        self.refresh = str(answer.members.get("refresh_token") or self.refresh)

    async def leave(self) -> bool:
        """Take off the second factor, which ends every session, or end them; whether no factor is left."""
        step = totp.step_at(self.target.now())
        for chosen in range(max(step, self.last_step + 1), step + self.skew + 1) if self.secret else ():
            body = {"username": self.username, "password": self.password, "token": self.code(chosen)}
            if (await post_until_not_busy(self.target, "/disable-mfa", body)).is_yes:
                return True
        await self.target.send("POST", "/logout?everywhere=true", bearer=self.access or "none")
        return not self.secret


class People:
    """Makes them, and remembers those that several attacks share."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._shared: dict[str, Person] = {}
        self.name = f"attack-{secrets.token_hex(4)}"
        self.made: list[Person] = []

    async def sign_up(self, *, mfa: bool) -> Person:
        """A new account; with `mfa` its authenticator has proved nothing yet. `NotTried` if none is to be had."""
        username, password = f"{self.name}-{len(self.made) + 1}", secrets.token_urlsafe(18)
        body = {"username": username, "password": password, "enable_mfa": mfa}
        answer = await post_until_not_busy(self._target, "/signup", body)
        if answer.status == 429:
            wait = answer.headers.get("retry-after", "?")
            raise NotTried(
                f"no more accounts from this address for {wait} s: KEYTURN_LIMIT_SIGNUP=off there, for the attack"
            )
        if answer.members.get("code") == "signup_closed":
            raise NotTried(
                "sign-up is closed there, and the attack needs accounts: set KEYTURN_SIGNUP=open for the service "
                "under test while it is attacked"
            )
        if not answer.is_yes:
            raise NotTried(f"/signup was answered {answer}")
        person = Person(self._target, username, password)
        self.made.append(person)
        if mfa:
            person.expect_authenticator(answer)
        return person

    async def make_enrolled_user(self) -> Person:
        """Somebody new with a proved second factor, logged in, and with a good code or two to come."""
        person = await self.sign_up(mfa=True)
        await person.enrol()
        return person

    async def enrolled_user(self) -> Person:
        """Has a proved second factor, and is logged in by it. Shared: do not end her."""
        if "enrolled" not in self._shared:
            self._shared["enrolled"] = await self.make_enrolled_user()
        return self._shared["enrolled"]

    async def password_user(self) -> Person:
        """Has a password only, and is logged in by it. Shared."""
        if "password" not in self._shared:
            password_user = self._shared["password"] = await self.sign_up(mfa=False)
            await password_user.log_in()
        password_user = self._shared["password"]
        if password_user.access and not await password_user.is_logged_in():
            await password_user.log_in()  # an attack before this one ended his session, and has said so
        if not password_user.access or not password_user.refresh:
            raise NotTried("the password alone opens no session here (KEYTURN_REQUIRE_MFA?), and this needs one")
        return password_user

    async def unconfirmed_user(self) -> Person:
        """Asked for a second factor and proved none yet. Shared."""
        if "unconfirmed" not in self._shared:
            self._shared["unconfirmed"] = await self.sign_up(mfa=True)
        return self._shared["unconfirmed"]

    @property
    def deletion_command(self) -> str:
        """What the operator runs: nobody can delete an account from outside."""
        return f"To delete them, where the service runs: keyturn users delete --prefix {self.name}-"

    async def leave(self) -> list[str]:
        """Tidy up; sentences about what stays."""
        if not self.made:
            return ["No account was made."]
        kept = [person.username for person in self.made if not await person.leave()]
        first, last = self.made[0].username, self.made[-1].username
        who = f"1 account, {first}" if first == last else f"{len(self.made)} accounts, {first} to {last}"
        said = [f"Left behind: {who}. {self.deletion_command}"]
        if kept:
            said.append(
                f"Of these with their second factor still on, for want of a code that counts now: {', '.join(kept)}."
            )
        return said


async def post_until_not_busy(target: Target, path: str, body: Mapping[str, object]) -> Answer:
    """A POST that is repeated while the service says that it is busy (503)."""
    for _ in range(MAX_TRIES - 1):
        answer = await target.post(path, body)
        if answer.status != 503:
            return answer
        await asyncio.sleep(0.3)
    return await target.post(path, body)
