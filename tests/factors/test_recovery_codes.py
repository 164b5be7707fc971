"""Recovery codes: a login without the authenticator."""

import asyncio

from httpx2 import AsyncClient

from service.factors.attempts import MAX_FAILURES
from tests.harness.enrolment import enrolled, recover
from tests.harness.people import MovableClock, sign_up

NO_CODE = "AAAA-BBBB-CCCC-DDDD"


async def test_only_the_first_code_shows_ten_recovery_codes(client: AsyncClient, clock: MovableClock) -> None:
    """There are ten different codes of eighty bits, shown once."""
    carol, codes = await enrolled(client, clock)
    assert 10 == len(set(codes))
    assert {19} == {len(code) for code in codes}
    assert "recovery_codes" not in (await carol.log_in()).json()


async def test_a_recovery_code_admits_once(client: AsyncClient, clock: MovableClock) -> None:
    """It replaces the verification code in any spelling, and the answer states how many codes are left."""
    carol, codes = await enrolled(client, clock)
    answer = await recover(carol, codes[0].lower().replace("-", " "))
    assert (200, 9) == (answer.status_code, answer.json()["recovery_codes_left"])
    assert "invalid_code" == (await recover(carol, codes[0])).json()["code"]
    assert 8 == (await recover(carol, codes[1])).json()["recovery_codes_left"]


async def test_a_recovery_code_of_another_user_is_refused(client: AsyncClient, clock: MovableClock) -> None:
    """A recovery code is bound to its user."""
    _, codes = await enrolled(client, clock, "carol")
    dave, _ = await enrolled(client, clock, "dave")
    assert "invalid_code" == (await recover(dave, codes[0])).json()["code"]


async def test_one_recovery_code_sent_many_times_admits_once(client: AsyncClient, clock: MovableClock) -> None:
    """Of five requests at once, with five tokens and the same code, one succeeds."""
    carol, codes = await enrolled(client, clock)
    tokens = [await carol.pending() for _ in range(5)]
    answers = await asyncio.gather(*(recover(carol, codes[0], token) for token in tokens))
    assert 1 == sum(answer.status_code == 200 for answer in answers)


async def test_a_code_and_a_recovery_code_under_one_token_open_one_session(
    client: AsyncClient, clock: MovableClock
) -> None:
    """Both are valid and arrive at once; the pending token is accepted once."""
    carol, codes = await enrolled(client, clock)
    token = await carol.pending()
    answers = await asyncio.gather(recover(carol, codes[0], token), carol.give_code(mfa_token=token))
    assert 1 == sum(answer.status_code == 200 for answer in answers)


async def test_recovery_codes_and_verification_codes_have_separate_budgets(
    client: AsyncClient, clock: MovableClock
) -> None:
    """While one of them is throttled, the other still admits."""
    carol, codes = await enrolled(client, clock)
    for _ in range(5):
        assert "invalid_code" == (refused := await recover(carol, NO_CODE)).json()["code"]
        assert "next" not in refused.json()["title"], "a recovery code has no next one to wait for"
        assert "retry-after" not in refused.headers
    assert 429 == (await recover(carol, codes[0])).status_code
    assert 200 == (await carol.log_in()).status_code
    clock.next_step()
    for _ in range(5):
        await carol.log_in(carol.wrong_code())
    assert 429 == (await carol.log_in()).status_code
    clock.advance(seconds=1)
    assert 200 == (await recover(carol, codes[0])).status_code


async def test_wrong_recovery_codes_are_budgeted(client: AsyncClient, clock: MovableClock) -> None:
    """Fifty failures are allowed in thirty days."""
    carol, codes = await enrolled(client, clock)
    failures = 0
    while failures < MAX_FAILURES:
        answer = await recover(carol, NO_CODE)
        if answer.status_code == 429:
            clock.advance(seconds=int(answer.headers["retry-after"]))
        else:
            failures += 1
    clock.advance(seconds=3600)
    assert int((await recover(carol, codes[0])).headers["retry-after"]) > 86400


async def test_disabling_and_enrolling_again_voids_old_recovery_codes(
    client: AsyncClient, clock: MovableClock
) -> None:
    """A new authenticator comes with new recovery codes."""
    carol, codes = await enrolled(client, clock)
    assert 200 == (await carol.disable()).status_code
    access = (await carol.give_password()).json()["access_token"]
    headers = {"Authorization": f"Bearer {access}"}
    enabled = (await client.post("/enable-mfa", json={"password": carol.password}, headers=headers)).json()
    unconfirmed = await recover(carol, codes[0], enabled["mfa_token"])
    assert "invalid_code" == unconfirmed.json()["code"]
    carol.secret = enabled["provisioning_uri"].split("secret=")[1].split("&")[0]
    await carol.give_code(mfa_token=enabled["mfa_token"])
    assert "invalid_code" == (await recover(carol, codes[0])).json()["code"]


async def test_exactly_one_of_otp_and_recovery_code_is_needed(client: AsyncClient, clock: MovableClock) -> None:
    """Both or neither get 422, and nothing is consumed."""
    carol, codes = await enrolled(client, clock)
    token = await carol.pending()
    for body in ({"recovery_code": codes[0], "otp": carol.code()}, {}, {"recovery_code": "too short"}):
        assert 422 == (await client.post("/login-2fa", json={"mfa_token": token, **body})).status_code
    assert 200 == (await recover(carol, codes[0], token)).status_code


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_all_recovery_codes_are_replaced_at_once(client: AsyncClient, clock: MovableClock) -> None:
    """There are ten new codes, the old ones are void, the budget starts again, and the session continues."""
    carol, old = await enrolled(client, clock)
    access = (await carol.log_in()).json()["access_token"]
    answer = await client.post("/recovery-codes", headers=bearer(access))
    new = answer.json()["recovery_codes"]
    assert (200, 10) == (answer.status_code, len(set(new)))
    assert not set(new) & set(old)
    assert "no-store" == answer.headers["cache-control"]
    assert "invalid_code" == (await recover(carol, old[5])).json()["code"]
    assert 9 == (await recover(carol, new[5])).json()["recovery_codes_left"]
    assert 9 == (await client.get("/me", headers=bearer(access))).json()["recovery_codes_left"]


async def test_replacing_them_requires_a_fresh_second_factor(client: AsyncClient, clock: MovableClock) -> None:
    """A stolen older access token is not enough: the answer is the challenge to step up."""
    carol, _ = await enrolled(client, clock)
    tokens = (await carol.log_in()).json()
    clock.advance(seconds=301)
    stale = await client.post("/recovery-codes", headers=bearer(tokens["access_token"]))
    assert (401, "insufficient_user_authentication") == (stale.status_code, stale.json()["code"])
    assert stale.headers["www-authenticate"].endswith('acr_values="aal2", max_age="300"')
    challenge = (await client.post("/step-up", headers=bearer(tokens["access_token"]))).json()
    stepped_up = (await carol.give_code(mfa_token=challenge["mfa_token"])).json()["access_token"]
    assert 200 == (await client.post("/recovery-codes", headers=bearer(stepped_up))).status_code
    bob = await sign_up(client, clock, "bob", mfa=False)
    weak = (await bob.give_password()).json()["access_token"]
    assert 401 == (await client.post("/recovery-codes", headers=bearer(weak))).status_code


async def test_recovery_codes_are_replaced_while_some_are_used(client: AsyncClient, clock: MovableClock) -> None:
    """In any order, ten new codes are left, and none of the old ones."""
    carol, old = await enrolled(client, clock)
    access = (await carol.log_in()).json()["access_token"]
    tokens = [await carol.pending() for _ in range(3)]
    replaced, *_ = await asyncio.gather(
        client.post("/recovery-codes", headers=bearer(access)),
        *(recover(carol, code, token) for code, token in zip(old, tokens, strict=False)),
    )
    assert 200 == replaced.status_code
    assert 10 == (await client.get("/me", headers=bearer(access))).json()["recovery_codes_left"]
