"""Recovery codes: the way in without the phone."""

import asyncio

from httpx2 import AsyncClient, Response

from service.attempts import BUDGET
from tests.people import MovableClock, Person, sign_up

NO_CODE = "AAAA-BBBB-CCCC-DDDD"


async def enrolled(client: AsyncClient, clock: MovableClock, username: str = "carol") -> tuple[Person, list[str]]:
    person = await sign_up(client, clock, username)
    codes: list[str] = (await person.confirm()).json()["recovery_codes"]
    clock.next_step()
    return person, codes


async def recover(person: Person, code: str, mfa_token: str | None = None) -> Response:
    body = {"mfa_token": mfa_token or await person.pending(), "recovery_code": code}
    return await person.client.post("/login-2fa", json=body)


async def test_the_first_code_shows_ten_recovery_codes_and_no_later_one_does(
    client: AsyncClient, clock: MovableClock
) -> None:
    """Ten, all different, of eighty bits; shown once."""
    carol, codes = await enrolled(client, clock)
    assert 10 == len(set(codes))
    assert {19} == {len(code) for code in codes}
    assert "recovery_codes" not in (await carol.log_in()).json()


async def test_a_recovery_code_opens_the_door_once(client: AsyncClient, clock: MovableClock) -> None:
    """In place of the OTP, however it is typed; the answer says how many are left, and `amr` what it was."""
    carol, codes = await enrolled(client, clock)
    answer = await recover(carol, codes[0].lower().replace("-", " "))
    assert (200, 9) == (answer.status_code, answer.json()["recovery_codes_left"])
    assert "invalid_code" == (await recover(carol, codes[0])).json()["code"]
    assert 8 == (await recover(carol, codes[1])).json()["recovery_codes_left"]


async def test_other_peoples_recovery_codes_open_nothing(client: AsyncClient, clock: MovableClock) -> None:
    """A code is bound to its person."""
    _, hers = await enrolled(client, clock, "carol")
    dave, _ = await enrolled(client, clock, "dave")
    assert "invalid_code" == (await recover(dave, hers[0])).json()["code"]


async def test_one_recovery_code_many_times_at_once(client: AsyncClient, clock: MovableClock) -> None:
    """Five tokens, the same code, all at once: one gets in."""
    carol, codes = await enrolled(client, clock)
    tokens = [await carol.pending() for _ in range(5)]
    answers = await asyncio.gather(*(recover(carol, codes[0], token) for token in tokens))
    assert 1 == sum(answer.status_code == 200 for answer in answers)


async def test_a_code_and_a_recovery_code_under_one_token_open_one_session(
    client: AsyncClient, clock: MovableClock
) -> None:
    """At once, both right: the pending token admits once."""
    carol, codes = await enrolled(client, clock)
    token = await carol.pending()
    answers = await asyncio.gather(recover(carol, codes[0], token), carol.give_code(mfa_token=token))
    assert 1 == sum(answer.status_code == 200 for answer in answers)


async def test_wrong_recovery_codes_and_wrong_otps_have_budgets_apart(
    client: AsyncClient, clock: MovableClock
) -> None:
    """While one of them waits, the other opens the door."""
    carol, codes = await enrolled(client, clock)
    for _ in range(5):
        assert "invalid_code" == (await recover(carol, NO_CODE)).json()["code"]
    assert 429 == (await recover(carol, codes[0])).status_code
    assert 200 == (await carol.log_in()).status_code
    clock.next_step()
    for _ in range(5):
        await carol.log_in(carol.wrong_code())
    assert 429 == (await carol.log_in()).status_code
    clock.advance(seconds=1)
    assert 200 == (await recover(carol, codes[0])).status_code


async def test_wrong_recovery_codes_are_budgeted(client: AsyncClient, clock: MovableClock) -> None:
    """Fifty in thirty days."""
    carol, codes = await enrolled(client, clock)
    looked_at = 0
    while looked_at < BUDGET:
        answer = await recover(carol, NO_CODE)
        if answer.status_code == 429:
            clock.advance(seconds=int(answer.headers["retry-after"]))
        else:
            looked_at += 1
    clock.advance(seconds=3600)
    assert int((await recover(carol, codes[0])).headers["retry-after"]) > 86400


async def test_disabling_and_enrolling_again_voids_old_recovery_codes(
    client: AsyncClient, clock: MovableClock
) -> None:
    """New factor, new codes."""
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
    """Both or neither: a clear refusal, and nothing is spent."""
    carol, codes = await enrolled(client, clock)
    token = await carol.pending()
    for body in ({"recovery_code": codes[0], "otp": carol.code()}, {}, {"recovery_code": "too short"}):
        assert 422 == (await client.post("/login-2fa", json={"mfa_token": token, **body})).status_code
    assert 200 == (await recover(carol, codes[0], token)).status_code
