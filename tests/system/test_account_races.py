"""Races of a login with a change of the account: in no order does a session or token survive that must not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta
from typing import Any

import pyotp
import pytest

from service.components import Components, open_components
from service.errors import ServiceError
from service.factors.totp_authenticators import TotpCode
from service.login.pending import SecondFactorRequired
from service.origin import OPERATOR, Caller
from service.settings import Settings
from service.users.passwords import CHEAPEST
from tests.harness.databases import PATIENT
from tests.harness.people import PASSWORD, MovableClock, secret_in
from tests.harness.rounds import rounds
from tests.harness.servers import make_schema

pytestmark = [pytest.mark.heavy, pytest.mark.rounds]

HERE = Caller("192.0.2.1")
ROUNDS = rounds(3, long=8, everything=25)


@pytest.fixture
async def parts(world: dict[str, Any], clock: MovableClock) -> AsyncIterator[Components]:
    settings = Settings(**{**world, "limit_signup": None})
    if settings.database_url is None:
        make_schema(settings)
    async with open_components(settings, clock, hash_cost=CHEAPEST, timeouts=PATIENT) as opened:
        yield opened


async def enrolled(parts: Components, username: str) -> str:
    """Sign up a user with a confirmed factor; return its secret."""
    signed_up = await parts.sign_up.sign_up(username, PASSWORD, enable_mfa=True, caller=HERE)
    assert signed_up.enrolment is not None
    secret = secret_in(signed_up.enrolment.provisioning_uri)
    await parts.login.with_proof(signed_up.enrolment.mfa_token, TotpCode(code(parts, secret, -1)), HERE)
    return secret


def code(parts: Components, secret: str, steps: int = 0) -> str:
    return pyotp.TOTP(secret).at(parts.clock(), counter_offset=steps)


async def pending(parts: Components, username: str) -> str:
    required = await parts.login.with_password(username, PASSWORD, HERE)
    assert isinstance(required, SecondFactorRequired)
    return required.mfa_token


async def outcome(act: Awaitable[object]) -> str:
    try:
        await act
    except ServiceError as error:
        return error.code
    return "done"


async def live_sessions(parts: Components, username: str) -> int:
    row = await parts.database.fetch_one(
        "SELECT COUNT(*) AS alive FROM sessions s JOIN users u ON u.id = s.user_id"
        " WHERE u.username = $1 AND s.ended_at IS NULL",
        username,
    )
    assert row is not None
    return int(row["alive"])


async def test_a_user_disabled_while_logging_in_has_no_session(parts: Components) -> None:
    """The second step and the operator's command run at once: the session is ended, or it is never opened."""
    for number in range(ROUNDS):
        name = f"user{number}"
        secret = await enrolled(parts, name)
        token = await pending(parts, name)
        await asyncio.gather(
            outcome(parts.login.with_proof(token, TotpCode(code(parts, secret)), HERE)),
            outcome(parts.administration.set_disabled(name, disabled=True, by=OPERATOR)),
        )
        assert 0 == await live_sessions(parts, name)


async def test_a_password_login_during_disabling_leaves_no_session(parts: Components) -> None:
    """The same holds for an account without MFA."""
    for number in range(ROUNDS):
        name = f"user{number}"
        await parts.sign_up.sign_up(name, PASSWORD, enable_mfa=False, caller=HERE)
        await asyncio.gather(
            outcome(parts.login.with_password(name, PASSWORD, HERE)),
            outcome(parts.administration.set_disabled(name, disabled=True, by=OPERATOR)),
        )
        assert 0 == await live_sessions(parts, name)


async def test_a_password_login_during_enrolment_is_ended_by_the_confirmation(
    parts: Components, clock: MovableClock
) -> None:
    """A password-only session that was opened during the enrolment ends when the enrolment is confirmed."""
    for number in range(rounds(2, long=5, everything=10)):
        name = f"user{number}"
        await parts.sign_up.sign_up(name, PASSWORD, enable_mfa=False, caller=HERE)
        admitted = await parts.login.with_password(name, PASSWORD, HERE)
        assert not isinstance(admitted, SecondFactorRequired)
        now = parts.clock()
        public = await parts.keys.public_keys(now)
        access = parts.tokens.access.read(admitted.access_token, find_key=public.get, now=now)
        enabling = asyncio.create_task(parts.enrolment.start(access, PASSWORD, HERE))
        await asyncio.gather(*(outcome(parts.login.with_password(name, PASSWORD, HERE)) for _ in range(3)))
        enrolment = await enabling
        assert isinstance(await parts.login.with_password(name, PASSWORD, HERE), SecondFactorRequired)
        await parts.login.with_proof(
            enrolment.mfa_token, TotpCode(code(parts, secret_in(enrolment.provisioning_uri))), HERE
        )
        assert 1 == await live_sessions(parts, name)  # the one that the code opened


async def test_two_confirmations_two_resets_and_a_login_never_deadlock(parts: Components) -> None:
    """Concurrent changes of one account all get an answer, and none of the answers is an outage."""
    for number in range(ROUNDS):
        name = f"user{number}"
        signed_up = await parts.sign_up.sign_up(name, PASSWORD, enable_mfa=True, caller=HERE)
        assert signed_up.enrolment is not None
        token, secret = signed_up.enrolment.mfa_token, secret_in(signed_up.enrolment.provisioning_uri)
        answers = await asyncio.gather(
            outcome(parts.login.with_proof(token, TotpCode(code(parts, secret)), HERE)),
            outcome(parts.login.with_proof(token, TotpCode(code(parts, secret, 1)), HERE)),
            outcome(parts.own_factors.disable(name, PASSWORD, TotpCode(code(parts, secret, 1)), HERE)),
            outcome(parts.administration.reset_mfa(name, by=OPERATOR)),
            outcome(parts.administration.reset_mfa(name, by=OPERATOR)),
        )
        assert "store_unavailable" not in answers
        assert await live_sessions(parts, name) <= 1


async def test_a_session_of_a_disabled_user_ends_at_once(parts: Components, clock: MovableClock) -> None:
    """The user's access token still verifies until it expires, but this service no longer accepts it."""
    await parts.sign_up.sign_up("alice", PASSWORD, enable_mfa=False, caller=HERE)
    admitted = await parts.login.with_password("alice", PASSWORD, HERE)
    assert not isinstance(admitted, SecondFactorRequired)
    assert "done" == await outcome(parts.bearer_auth.authenticate(admitted.access_token))
    await parts.administration.set_disabled("alice", disabled=True, by=OPERATOR)
    assert "invalid_token" == await outcome(parts.bearer_auth.authenticate(admitted.access_token))
    await parts.administration.set_disabled("alice", disabled=False, by=OPERATOR)
    assert "invalid_token" == await outcome(parts.bearer_auth.authenticate(admitted.access_token))
    clock.now += timedelta(seconds=600)
    assert "done" == await outcome(parts.login.with_password("alice", PASSWORD, HERE))
