"""One user and every use of a second factor, at random, against a small model of what must be refused.

The model computes which codes are acceptable now and which tokens are alive; the service may never grant more.
Where nothing is throttled it may not grant less either. The invariants are written as sentences.
"""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pyotp
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from service.app import create_app
from service.origin import OPERATOR
from service.settings import Settings
from service.users.passwords import CHEAPEST
from tests.harness.canaries import Watch
from tests.harness.clients import SECRET, Client
from tests.harness.databases import PATIENT
from tests.harness.people import MovableClock, secret_in
from tests.harness.rounds import rounds
from tests.harness.servers import PostgreSQLServer, RedisServer, make_schema
from tests.harness.sessions import bearer, claims

STEP, DAY = 30, 86400
REST = 30 * DAY
"""The time for which a known device replaces a code in these tests."""

STAFF = "staff"
"""The role whose users must have a second factor in these tests."""

MOMENTS = [1, 29, 30, 31, 60, 91, 299, 301, 3600, DAY, 3 * DAY, 8 * DAY, 31 * DAY]

SHIFTS = [-12, -5, -2, -1, 0, 0, 0, 1, 2, 5, 6, 12]
"""The steps by which a code is off; mostly none."""


@dataclass
class World:
    """A service that all runs share; each run has its own user."""

    client: Client
    clock: MovableClock
    runner: asyncio.Runner
    people: Iterator[int] = field(default_factory=lambda: iter(range(10**6)))

    def request(self, method: str, path: str, **more: Any) -> httpx2.Response:
        return self.runner.run(self.client.request(method, path, **more))

    def at_once(self, *bodies: dict[str, Any]) -> list[httpx2.Response]:
        async def all_of_them() -> list[httpx2.Response]:
            return await asyncio.gather(*(self.client.post("/login-2fa", json=body) for body in bodies))

        return self.runner.run(all_of_them())


@dataclass
class Authenticator:
    secret: str
    name: str = "Authenticator"
    """No two present authenticators have the same name."""
    is_confirmed: bool = False
    is_gone: bool = False
    last_step: int = 0
    reported_at: float | None = None
    offset: int = 0
    accepted: list[int] = field(default_factory=list)

    def code(self, step: int) -> str:
        return pyotp.TOTP(self.secret).generate_otp(step)


@dataclass
class Pending:
    token: str
    credential_version: int
    expires_at: float
    adds: Authenticator | None = None
    sid: str | None = None
    codes: int = 0
    admitted: int = 0


@dataclass
class PasswordSession:
    """A session that the password alone opened, for a user without a second factor."""

    access: str
    refresh: str
    is_over: bool = False


@dataclass
class Device:
    token: str
    credential_version: int
    expires_at: float
    proved_at: float


class Run(RuleBasedStateMachine):
    """What may happen to a user who has a second factor, in any order."""

    world: World

    @initialize()
    def sign_up(self) -> None:
        self.name = f"person{next(self.world.people)}"
        self.password = "correct horse battery staple"
        self.credential_version = 1
        self.is_disabled = False
        self.authenticators: list[Authenticator] = []
        self.pendings: list[Pending] = []
        self.devices: list[Device] = []
        self.access: list[str] = []
        self.alone: list[PasswordSession] = []
        self.is_staff = False
        self.recovery_codes: list[str] = []
        self.old_codes: list[str] = []
        self.recovery_due: float | None = None
        self.failures: list[float] = []
        self.in_a_row = 0
        self.proofs_used = 0
        self.grants_of_aal2 = 0
        self.ever_usable = 1
        body = {"username": self.name, "password": self.password, "enable_mfa": True}
        answer = self.world.request("POST", "/signup", json=body).json()
        self.authenticators.append(Authenticator(secret_in(answer["provisioning_uri"])))
        self.remember_pending(answer["mfa_token"])
        self.give(self.pendings[-1], self.authenticators[-1].code(self.step), remember=False)

    # --- the model ---

    @property
    def now(self) -> float:
        return self.world.clock.now.timestamp()

    @property
    def step(self) -> int:
        return int(self.now) // STEP

    def usable(self) -> list[Authenticator]:
        """Return the authenticators whose codes a login accepts."""
        present = [authenticator for authenticator in self.authenticators if not authenticator.is_gone]
        return [authenticator for authenticator in present if authenticator.is_confirmed] or present

    def candidates(self, pending: Pending) -> list[Authenticator]:
        if pending.adds is not None:
            return [] if pending.adds.is_gone or pending.adds.is_confirmed else [pending.adds]
        if pending.sid is not None:
            return [authenticator for authenticator in self.usable() if authenticator.is_confirmed]
        return self.usable()

    def acceptable(self, otp: str, candidates: list[Authenticator]) -> list[tuple[Authenticator, int]]:
        """Return the steps with this code of which one is acceptable now."""
        return [
            (authenticator, step)
            for authenticator in candidates
            for step in range(self.step - 12, self.step + 13)
            if authenticator.code(step) == otp and self.is_acceptable(authenticator, step)
        ]

    def is_acceptable(self, authenticator: Authenticator, step: int) -> bool:
        if step <= authenticator.last_step:
            return False
        if abs(step - self.step - authenticator.offset) <= 1:
            return True
        was_reported = (
            authenticator.reported_at is not None
            and int(self.now) - int(authenticator.reported_at) <= 90
            and authenticator.last_step == step - 1
        )
        return was_reported and abs(step - self.step) <= 11

    def is_alive(self, pending: Pending) -> bool:
        return (
            pending.credential_version == self.credential_version
            and not self.is_disabled
            and pending.admitted == 0
            and int(self.now) < pending.expires_at
            and pending.codes < 5
        )

    def remember_pending(self, token: str, **more: Any) -> None:
        self.pendings.append(Pending(token, self.credential_version, int(self.now) + 300, **more))

    def increment_credential_version(self) -> None:
        """A change of password or factors: pending and device tokens end, and a recovery is cancelled."""
        self.credential_version += 1
        self.recovery_due = None

    def forget_factors(self) -> None:
        for authenticator in self.authenticators:
            authenticator.is_gone = True
        self.old_codes += self.recovery_codes
        self.recovery_codes = []
        self.in_a_row = 0

    def accept(self, authenticator: Authenticator, step: int) -> None:
        assert step > authenticator.last_step, "accepted steps of a factor strictly increase"
        authenticator.accepted.append(step)
        authenticator.last_step, authenticator.reported_at = step, None
        if abs(step - self.step - authenticator.offset) > 1:
            authenticator.offset = step - self.step
        self.in_a_row = 0
        self.proofs_used += 1

    def refuse(self, answer: httpx2.Response, otp: str, candidates: list[Authenticator]) -> None:
        """Record that the code was checked and refused."""
        self.failures.append(self.now)
        self.in_a_row += 1
        if answer.json()["code"] == "code_out_of_step":
            steps = [
                (authenticator, step)
                for authenticator in candidates
                for step in range(self.step - 11, self.step + 12)
                if authenticator.code(step) == otp and step > authenticator.last_step
            ]
            assert steps, "a code of no near step was reported as out of step"
            authenticator, step = steps[0]
            authenticator.last_step, authenticator.reported_at = step, self.now

    def granted(self, answer: httpx2.Response, pending: Pending) -> None:
        """Record that a second factor was accepted."""
        body = answer.json()
        pending.admitted += 1
        self.grants_of_aal2 += 1
        assert "aal2" == claims(body["access_token"])["acr"]
        self.access.append(body["access_token"])
        self.recovery_due = None
        if "device_token" in body:
            self.devices.append(
                Device(body["device_token"], self.credential_version, self.now + 90 * DAY, int(self.now))
            )

    # --- what may happen ---

    @rule(seconds=st.sampled_from(MOMENTS))
    def time_passes(self, seconds: int) -> None:
        self.world.clock.advance(seconds=seconds)

    @rule(device=st.integers(-1, 3), remember=st.booleans())
    def give_the_password(self, device: int, remember: bool) -> None:
        known = self.devices[device] if 0 <= device < len(self.devices) else None
        body: dict[str, Any] = {"username": self.name, "password": self.password, "remember_device": remember}
        if known is not None:
            body["device_token"] = known.token
        answer = self.world.request("POST", "/login", json=body)
        if self.is_disabled:
            assert 401 == answer.status_code
            return
        assert 200 == answer.status_code, answer.text
        body = answer.json()
        is_due = self.recovery_due is not None and self.recovery_due <= int(self.now) < self.recovery_due + 7 * DAY
        if is_due:
            self.forget_factors()
            self.increment_credential_version()
            self.authenticators.append(Authenticator(self.shown_secret(body["mfa_token"])))
            self.ever_usable += 1
        if body["mfa_required"]:
            if not self.usable():
                assert self.is_staff, "a second factor is demanded of staff only"
                self.authenticators.append(Authenticator(self.shown_secret(body["mfa_token"])))
                self.ever_usable += 1
            assert body["mfa_confirmed"] == any(authenticator.is_confirmed for authenticator in self.usable())
            self.remember_pending(body["mfa_token"])
            return
        assert "aal1" == claims(body["access_token"])["acr"], "a password yields no aal2"
        if self.usable():
            assert known is not None, "the password alone never yields more than a pending token"
            assert known.credential_version == self.credential_version, (
                "a device ends with a change of password or factors"
            )
            assert self.now < known.expires_at
            assert known.proved_at > 0, "a device replaces a code only if one was given on it"
            assert int(self.now) < known.proved_at + REST
        else:
            assert not self.is_staff, "the password alone does not admit staff"
            self.alone.append(PasswordSession(body["access_token"], body["refresh_token"]))
        self.access.append(body["access_token"])
        if "device_token" in body:
            proved_at = (
                known.proved_at if known is not None and known.credential_version == self.credential_version else 0
            )
            self.devices.append(Device(body["device_token"], self.credential_version, self.now + 90 * DAY, proved_at))

    def shown_secret(self, mfa_token: str) -> str:
        as_json = {**bearer(mfa_token), "Accept": "application/json"}
        shown = self.world.request("GET", f"/qrcode/{self.name}", headers=as_json)
        return str(shown.json()["secret"])

    @rule(is_staff=st.booleans())
    def the_operator_changes_the_role(self, is_staff: bool) -> None:
        administration = self.world.client.parts.administration
        change = {"add" if is_staff else "remove": STAFF}
        changed = self.world.runner.run(administration.set_roles(self.name, by=OPERATOR, **change))
        assert changed.roles == ((STAFF,) if is_staff else ())
        self.is_staff = is_staff
        if is_staff:
            for session in self.alone:
                session.is_over = True

    @rule(which=st.integers(0, 3))
    def continue_with_the_password_alone(self, which: int) -> None:
        """Use a session from before a role or a second factor was added, or after a factor was removed."""
        if not self.alone:
            return
        session = self.alone[-1 - which % len(self.alone)]
        form = {"grant_type": "refresh_token", "refresh_token": session.refresh}
        answer = self.world.request("POST", "/token", data=form)
        shown = self.world.request("GET", "/me", headers=bearer(session.access))
        if answer.status_code == 200 or shown.status_code == 200:
            assert not session.is_over, "a session without a demanded second factor stays ended"
            assert not any(authenticator.is_confirmed for authenticator in self.usable()), (
                "a session of the password alone ends with the first code"
            )
            assert not self.is_disabled
        if answer.status_code == 200:
            body = answer.json()
            assert ("aal1", []) == (claims(body["access_token"])["acr"], claims(body["access_token"])["roles"])
            session.access, session.refresh = body["access_token"], body["refresh_token"]
        else:
            session.is_over = True

    @rule()
    def lose_the_second_factor_and_log_in(self) -> None:
        """Reset by the operator: then the password alone is enough for users who are not staff."""
        self.the_operator_acts("reset")
        self.give_the_password(-1, False)

    @rule(which=st.integers(0, 5), whose=st.integers(0, 5), shift=st.sampled_from(SHIFTS), remember=st.booleans())
    def give_a_code(self, which: int, whose: int, shift: int, remember: bool) -> None:
        pending = self.pendings[-1 - which % len(self.pendings)]
        authenticator = self.authenticators[-1 - whose % len(self.authenticators)]
        self.give(pending, authenticator.code(self.step + authenticator.offset + shift), remember=remember)

    @rule(which=st.integers(0, 4), remember=st.booleans())
    def log_in(self, which: int, remember: bool) -> None:
        """Give the password and a fresh code."""
        self.world.clock.next_step()
        self.give_the_password(-1, remember)
        usable = self.usable()
        if usable and not self.is_disabled:
            authenticator = usable[which % len(usable)]
            self.give(self.pendings[-1], authenticator.code(self.step + authenticator.offset), remember=remember)

    @rule()
    def add_another_authenticator(self) -> None:
        """Log in, request an authenticator at once, and confirm it."""
        self.log_in(0, False)
        before = len(self.authenticators)
        self.request_an_authenticator(0, True)
        if len(self.authenticators) > before:
            self.give(self.pendings[-1], self.authenticators[-1].code(self.step), remember=False)

    @rule(which=st.integers(0, 2))
    def give_two_codes_of_a_clock_that_is_off(self, which: int) -> None:
        usable = self.usable()
        if not usable:
            return
        authenticator, off = usable[which % len(usable)], 7 if usable[0].offset <= 0 else -7
        for _ in range(2):
            self.give_the_password(-1, False)
            self.give(self.pendings[-1], authenticator.code(self.step + off), remember=False)
            self.world.clock.next_step()

    @rule(which=st.integers(0, 3), whose=st.integers(0, 3), again=st.integers(1, 4))
    def give_a_used_code_again(self, which: int, whose: int, again: int) -> None:
        authenticator = self.authenticators[-1 - whose % len(self.authenticators)]
        if len(authenticator.accepted) >= again:
            pending = self.pendings[-1 - which % len(self.pendings)]
            self.give(pending, authenticator.code(authenticator.accepted[-again]), remember=False)

    def give(self, pending: Pending, otp: str, *, remember: bool) -> None:
        candidates, alive = self.candidates(pending), self.is_alive(pending)
        body = {"mfa_token": pending.token, "otp": otp, "remember_device": remember}
        answer = self.world.request("POST", "/login-2fa", json=body)
        self.judge(answer, pending, otp, candidates=candidates, alive=alive)

    def judge(
        self, answer: httpx2.Response, pending: Pending, otp: str, *, candidates: list[Authenticator], alive: bool
    ) -> None:
        acceptable = self.acceptable(otp, candidates)
        if answer.status_code == 200:
            assert alive, "a pending token admits at most once, and not after a change of the account"
            assert acceptable, "a code that must be refused was accepted"
            authenticator, step = acceptable[0]
            self.accept(authenticator, step)
            self.confirm(authenticator, answer)
            self.granted(answer, pending)
            return
        code = answer.json()["code"]
        if code in {"invalid_code", "code_out_of_step"}:
            assert alive, "a code under a used pending token is not checked"
            pending.codes += 1
            self.refuse(answer, otp, candidates)
        assert not (acceptable and alive and candidates and self.in_a_row == 0), answer.text

    def confirm(self, authenticator: Authenticator, answer: httpx2.Response) -> None:
        if not authenticator.is_confirmed:
            self.increment_credential_version()
            authenticator.is_confirmed = True
            is_first = sum(other.is_confirmed and not other.is_gone for other in self.authenticators) == 1
            assert is_first == ("recovery_codes" in answer.json())
            self.recovery_codes += answer.json().get("recovery_codes", [])

    @rule(shift=st.integers(-1, 1), callers=st.integers(2, 5))
    def many_give_one_code_at_once(self, shift: int, callers: int) -> None:
        usable = self.usable()
        if self.is_disabled or not usable or not usable[0].is_confirmed:
            return
        for _ in range(callers):
            self.give_the_password(-1, False)
        pendings = self.pendings[-callers:]
        otp = usable[0].code(self.step + usable[0].offset + shift)
        answers = self.world.at_once(*({"mfa_token": pending.token, "otp": otp} for pending in pendings))
        statuses = [answer.status_code for answer in answers]
        assert statuses.count(200) <= 1, "one code opens one session"
        first = sorted(zip(answers, pendings, strict=True), key=lambda pair: pair[0].status_code)
        for answer, pending in first:
            candidates, alive = self.candidates(pending), self.is_alive(pending)
            if answer.status_code == 200:
                self.judge(answer, pending, otp, candidates=candidates, alive=alive)
            elif answer.json()["code"] == "invalid_code":
                pending.codes += 1
                self.refuse(answer, otp, candidates)

    @rule(which=st.integers(0, 5), code=st.integers(0, 30))
    def give_a_recovery_code(self, which: int, code: int) -> None:
        pending = self.pendings[-1 - which % len(self.pendings)]
        every = self.recovery_codes + self.old_codes
        if not every:
            return
        given, alive = every[code % len(every)], self.is_alive(pending)
        body = {"mfa_token": pending.token, "recovery_code": given}
        answer = self.world.request("POST", "/login-2fa", json=body)
        if answer.status_code == 200:
            assert alive or pending.codes >= 5, "codes and recovery codes are counted separately"
            assert pending.adds is None, "a recovery code confirms no authenticator"
            assert given in self.recovery_codes, "each recovery code is valid once"
            self.recovery_codes.remove(given)
            self.old_codes.append(given)
            assert len(self.recovery_codes) == answer.json()["recovery_codes_left"]
            self.proofs_used += 1
            self.granted(answer, pending)

    @rule(which=st.integers(0, 3))
    def request_a_step_up(self, which: int) -> None:
        if self.access:
            access = self.access[-1 - which % len(self.access)]
            answer = self.world.request("POST", "/step-up", headers=bearer(access))
            if answer.status_code == 200:
                assert any(authenticator.is_confirmed for authenticator in self.usable())
                self.remember_pending(answer.json()["mfa_token"], sid=claims(access)["sid"])

    @rule(which=st.integers(0, 3), named=st.booleans())
    def request_an_authenticator(self, which: int, named: bool) -> None:
        if not self.access:
            return
        access = self.access[-1 - which % len(self.access)]
        name = f"Tablet {len(self.authenticators)}" if named else "Authenticator"
        body = {"password": self.password, **({"name": name} if named else {})}
        answer = self.world.request("POST", "/enable-mfa", json=body, headers=bearer(access))
        if answer.status_code != 200:
            return
        body, token = answer.json(), claims(access)
        is_another = any(authenticator.is_confirmed for authenticator in self.usable())
        assert not self.is_disabled
        if is_another:
            assert "aal2" == token["acr"]
            assert int(self.now) - token["auth_time"] <= 300, "adding another requires a recent second factor"
        for authenticator in self.authenticators:
            authenticator.is_gone = authenticator.is_gone or not authenticator.is_confirmed
        new = Authenticator(secret_in(body["provisioning_uri"]), name)
        self.authenticators.append(new)
        self.ever_usable += 1
        self.increment_credential_version()
        self.remember_pending(
            body["mfa_token"], adds=new if is_another else None, sid=token["sid"] if is_another else None
        )

    @rule(which=st.integers(0, 3), factor=st.integers(0, 4))
    def remove_an_authenticator(self, which: int, factor: int) -> None:
        if not self.access:
            return
        headers = bearer(self.access[-1 - which % len(self.access)])
        listed = self.world.request("GET", "/factors", headers=headers)
        if listed.status_code != 200:
            return
        factors = listed.json()["factors"]
        present = [authenticator for authenticator in self.authenticators if not authenticator.is_gone]
        assert len(present) == len(factors)
        if not factors:
            return
        chosen = factors[factor % len(factors)]
        answer = self.world.request("DELETE", f"/factors/{chosen['id']}", headers=headers)
        if answer.status_code == 204:
            (removed,) = (authenticator for authenticator in present if authenticator.name == chosen["name"])
            removed.is_gone = True
            assert any(authenticator.is_confirmed for authenticator in self.usable()), (
                "the last authenticator is removed with a code only"
            )
            self.increment_credential_version()

    @rule(shift=st.sampled_from([-2, 0, 0, 1]))
    def disable(self, shift: int) -> None:
        usable = self.usable()
        if not usable:
            return
        otp = usable[0].code(self.step + usable[0].offset + shift)
        acceptable = [] if self.is_disabled else self.acceptable(otp, usable)
        body = {"username": self.name, "password": self.password, "token": otp}
        answer = self.world.request("POST", "/disable-mfa", json=body)
        if answer.status_code == 200:
            assert acceptable, "a code that must be refused was accepted"
            self.accept(*acceptable[0])
            self.grants_of_aal2 += 1
            self.forget_factors()
            self.increment_credential_version()
        elif answer.status_code == 401 and not self.is_disabled:
            assert not (acceptable and self.in_a_row == 0)
            self.failures.append(self.now)
            self.in_a_row += 1
            for authenticator in usable:  # out of step: not reported here, but consumed
                for step in range(self.step - 11, self.step + 12):
                    if (
                        authenticator.code(step) == otp
                        and step > authenticator.last_step
                        and not self.is_acceptable(authenticator, step)
                    ):
                        authenticator.last_step, authenticator.reported_at = step, self.now

    @rule(which=st.integers(0, 3))
    def replace_the_recovery_codes(self, which: int) -> None:
        if self.access:
            headers = bearer(self.access[-1 - which % len(self.access)])
            answer = self.world.request("POST", "/recovery-codes", headers=headers)
            if answer.status_code == 200:
                self.old_codes += self.recovery_codes
                self.recovery_codes = answer.json()["recovery_codes"]

    @rule(which=st.integers(0, 3))
    def change_the_password(self, which: int) -> None:
        if self.access:
            new = f"{self.password[:28]} {self.credential_version}"
            body = {"current_password": self.password, "new_password": new}
            headers = bearer(self.access[-1 - which % len(self.access)])
            answer = self.world.request("POST", "/password", json=body, headers=headers)
            if answer.status_code == 204:
                assert not self.is_disabled
                self.password = new
                self.increment_credential_version()

    @rule(which=st.integers(0, 3))
    def log_out_everywhere(self, which: int) -> None:
        if self.access:
            headers = bearer(self.access[-1 - which % len(self.access)])
            if self.world.request("POST", "/logout?everywhere=true", headers=headers).status_code == 204:
                self.increment_credential_version()
                for access in self.access:
                    assert 401 == self.world.request("GET", "/me", headers=bearer(access)).status_code

    @rule()
    def request_recovery(self) -> None:
        body = {"username": self.name, "password": self.password}
        assert 202 == self.world.request("POST", "/recovery", json=body).status_code
        has_factors = not self.is_disabled and any(authenticator.is_confirmed for authenticator in self.usable())
        if has_factors and (self.recovery_due is None or self.recovery_due <= int(self.now) - 7 * DAY):
            self.recovery_due = int(self.now) + 3 * DAY

    @rule(which=st.integers(0, 3))
    def cancel_recovery(self, which: int) -> None:
        if self.access:
            headers = bearer(self.access[-1 - which % len(self.access)])
            if self.world.request("DELETE", "/recovery", headers=headers).status_code == 204:
                self.recovery_due = None

    @rule(act=st.sampled_from(["reset", "disable", "enable"]))
    def the_operator_acts(self, act: str) -> None:
        administration = self.world.client.parts.administration
        if act == "reset":
            self.world.runner.run(administration.reset_mfa(self.name, by=OPERATOR))
            self.forget_factors()
        else:
            self.world.runner.run(administration.set_disabled(self.name, disabled=act == "disable", by=OPERATOR))
            if self.is_disabled == (act == "disable"):
                return
            self.is_disabled = act == "disable"
        self.increment_credential_version()

    @rule(guesses=st.sampled_from([1, 3, 5, 20]), pause=st.sampled_from([1, 31, 3601]))
    def an_attacker_with_the_password_guesses(self, guesses: int, pause: int) -> None:
        usable = self.usable()
        if self.is_disabled or not usable:
            return
        for _ in range(guesses):
            self.give_the_password(-1, False)
            usable = self.usable()
            near = {
                authenticator.code(step) for authenticator in usable for step in range(self.step - 12, self.step + 13)
            }
            wrong = next(code for code in map("{:06d}".format, range(10**6)) if code not in near)
            self.give(self.pendings[-1], wrong, remember=False)
            self.world.clock.advance(seconds=pause)

    # --- invariants ---

    @invariant()
    def accepted_steps_strictly_increase(self) -> None:
        for authenticator in getattr(self, "authenticators", []):
            assert authenticator.accepted == sorted(set(authenticator.accepted))

    @invariant()
    def no_aal2_without_exactly_one_consumed_proof(self) -> None:
        assert getattr(self, "proofs_used", 0) == getattr(self, "grants_of_aal2", 0)

    @invariant()
    def a_pending_token_admits_at_most_once(self) -> None:
        assert all(pending.admitted <= 1 for pending in getattr(self, "pendings", []))

    @invariant()
    def budgets_hold_in_every_thirty_days(self) -> None:
        failures = getattr(self, "failures", [])
        recent = [moment for moment in failures if failures and moment > failures[-1] - 30 * DAY]
        assert len(recent) <= 50 * getattr(self, "ever_usable", 1)


@pytest.fixture(params=["SQLite", "SQLite, Redis", "PostgreSQL", "PostgreSQL, Redis"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A service on each pair of stores, without the limits that do not concern factors."""
    chosen: dict[str, Any] = {
        "limit_signup": None,
        "limit_login": None,
        "limit_login_address": None,
        "limit_login_username": None,
        "remember_device_days": REST // DAY,
        "require_mfa": STAFF,
        "recovery_delay": "72h",
        "master_secrets": SECRET,
        "data_dir": tmp_path_factory.mktemp("data"),
    }
    if "PostgreSQL" in request.param:
        postgresql: PostgreSQLServer = request.getfixturevalue("postgresql_server")
        chosen["database_url"] = postgresql.url(postgresql.new_database("migrated"))
    else:
        make_schema(Settings(data_dir=chosen["data_dir"]))
    if "Redis" in request.param:
        redis: RedisServer = request.getfixturevalue("redis_server")
        redis.flush()
        chosen["redis_url"] = redis.url
    clock = MovableClock()
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def open_it() -> Client:
            app = create_app(Settings(**chosen), clock, hash_cost=CHEAPEST, timeouts=PATIENT)
            await stack.enter_async_context(app.router.lifespan_context(app))
            return await stack.enter_async_context(Client(app, clock, Watch()))

        yield World(runner.run(open_it()), clock, runner)
        runner.run(stack.aclose())


@pytest.mark.rounds
def test_nothing_is_granted_that_must_be_refused(world: World) -> None:
    """This holds in any order of actions of users, attackers, operators and clocks."""
    run_state_machine_as_test(
        type("RunHere", (Run,), {"world": world}),
        settings=settings(
            max_examples=rounds(4, long=8, everything=60),
            stateful_step_count=60,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
