"""Rate limits and budgets: passwords slow down and never lock; codes have a budget per factor."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from httpx2 import Response

from service.factors.attempts import MAX_FAILURES
from tests.harness.clients import Client, Opener
from tests.harness.people import PASSWORD, MovableClock, Person, sign_up

pytestmark = pytest.mark.heavy


def guess(client: Client, username: str = "alice") -> Any:
    return client.post("/login", json={"username": username, "password": "not the password"})


def wait_of(answer: Response) -> int:
    assert (429, "too_many_attempts") == (answer.status_code, answer.json()["code"])
    return int(answer.headers["retry-after"])


async def test_five_failures_are_free_then_the_wait_doubles_to_a_minute(client: Client, clock: MovableClock) -> None:
    """The wait is 1 s, 2 s, 4 s ... 60 s. During it a correct password waits too; after it, it is accepted."""
    await sign_up(client, clock, mfa=False)
    for _ in range(5):
        assert 401 == (await guess(client)).status_code
    waits = []
    for _ in range(8):
        waits.append(wait_of(await guess(client)))
        assert waits[-1] == wait_of(await client.post("/login", json={"username": "alice", "password": PASSWORD}))
        clock.advance(seconds=waits[-1])
        assert 401 == (await guess(client)).status_code
    assert [1, 2, 4, 8, 16, 32, 60, 60] == waits
    clock.advance(seconds=60)
    assert 200 == (await client.post("/login", json={"username": "alice", "password": PASSWORD})).status_code


async def test_parallel_guesses_are_charged_one_by_one(
    client: Client, clock: MovableClock, world: dict[str, Any]
) -> None:
    """Of any number of parallel guesses five are checked, and one more by a replica that cannot reach Redis (law 7:
    no fail-open, no hang)."""
    await sign_up(client, clock, mfa=False)
    answers = Counter([answer.status_code for answer in await asyncio.gather(*(guess(client) for _ in range(200)))])
    assert 200 == answers[401] + answers[429] + answers[503]  # 503: rejected by the hash queue, and not checked
    assert answers[401] <= (6 if "redis_url" in world else 5)


async def test_the_failures_of_others_lock_no_user_out(client: Client, clock: MovableClock) -> None:
    """After five hundred wrong passwords from a hundred addresses, the owner logs in from another address."""
    await sign_up(client, clock, mfa=False)
    for number in range(100):
        async with client.at(f"198.51.100.{number}") as attacker:
            for _ in range(5):
                await guess(attacker)
    assert 200 == (await client.post("/login", json={"username": "alice", "password": PASSWORD})).status_code


async def test_a_username_under_attack_leaves_each_address_one_free_failure(
    client: Client, clock: MovableClock
) -> None:
    """After a hundred failures an hour, from any addresses, the second attempt of a new address waits."""
    await sign_up(client, clock, mfa=False)
    for number in range(20):
        async with client.at(f"198.51.100.{number}") as attacker:
            for _ in range(5):
                assert 401 == (await guess(attacker)).status_code
    async with client.at("192.0.2.1") as newcomer:
        assert 401 == (await guess(newcomer)).status_code
        assert 1 == wait_of(await guess(newcomer))


async def test_an_address_that_fails_on_many_names_waits(client: Client, clock: MovableClock) -> None:
    """The limit is sixty failures in five minutes for all usernames together; IPv6 counts by /64."""
    async with client.at("2001:db8::1") as one, client.at("2001:db8::ffff") as other:
        for number in range(60):
            assert 401 == (await guess(one, f"user{number}")).status_code
        assert 300 == wait_of(await guess(other, "user99"))
        clock.advance(seconds=300)
        assert 401 == (await guess(other, "user99")).status_code
    assert 401 == (await guess(client, "user99")).status_code


async def test_a_correct_password_is_not_charged(client: Client, clock: MovableClock) -> None:
    """A hundred logins cause no wait."""
    alice = await sign_up(client, clock, mfa=False)
    for _ in range(100):
        assert 200 == (await alice.give_password()).status_code


async def test_accounts_per_address_are_limited(client: Client, clock: MovableClock) -> None:
    """The limit is twenty an hour. Taken names count, because sign-up reveals which usernames exist."""
    for number in range(20):
        await client.post("/signup", json={"username": f"user{number % 10}", "password": PASSWORD})
    assert wait_of(await client.post("/signup", json={"username": "another", "password": PASSWORD})) <= 3600
    async with client.at("192.0.2.1") as elsewhere:
        assert (
            201 == (await elsewhere.post("/signup", json={"username": "another", "password": PASSWORD})).status_code
        )


async def test_a_pending_token_allows_five_codes(alice: Person, clock: MovableClock) -> None:
    """The sixth attempt is refused, right or wrong, because the token is invalid; its codes are not counted."""
    pending = await alice.pending()
    for _ in range(4):
        assert "invalid_code" == (await alice.give_code(alice.wrong_code(), pending)).json()["code"]
    assert 200 == (await alice.give_code(mfa_token=pending)).status_code  # the fifth is correct: all refunded
    clock.next_step()
    pending = await alice.pending()
    for _ in range(5):
        assert "invalid_code" == (await alice.give_code(alice.wrong_code(), pending)).json()["code"]
    clock.advance(seconds=60)
    assert "invalid_token" == (await alice.give_code(mfa_token=pending)).json()["code"]
    for _ in range(20):
        assert "invalid_token" == (await alice.give_code(alice.wrong_code(), pending)).json()["code"]
    assert 200 == (await alice.log_in()).status_code


async def test_after_five_wrong_codes_the_right_one_waits_too(alice: Person, clock: MovableClock) -> None:
    """The wait is 30 s and doubles up to an hour. A new login, a correct password or another endpoint keep it."""
    waits = []
    for _ in range(5):
        await alice.log_in(alice.wrong_code())
    for _ in range(9):
        answer = await alice.log_in()  # a correct code under a new pending token
        waits.append(wait_of(answer))
        assert waits[-1] == wait_of(await alice.disable())
        clock.advance(seconds=waits[-1])
        assert 401 == (await alice.log_in(alice.wrong_code())).status_code
    assert [30, 60, 120, 240, 480, 960, 1920, 3600, 3600] == waits
    clock.advance(seconds=3600)
    assert 200 == (await alice.log_in()).status_code
    clock.next_step()
    assert 401 == (await alice.log_in(alice.wrong_code())).status_code  # the success reset the count


async def test_disable_reports_the_wait_only_after_a_correct_password(alice: Person) -> None:
    """With a wrong password the answer is the same as for every user."""
    for _ in range(5):
        await alice.log_in(alice.wrong_code())
    assert 429 == (await alice.disable()).status_code
    assert 401 == (await alice.disable(password="not the password")).status_code


async def test_fifty_failures_in_thirty_days_and_no_more(alice: Person, clock: MovableClock) -> None:
    """However slow the guesses and however many successes lie between, the fifty-first code is not compared."""
    start = clock.now
    looked_at = 0
    while looked_at < MAX_FAILURES:
        answer = await alice.log_in(alice.wrong_code())
        if answer.status_code == 429:
            clock.advance(seconds=wait_of(answer))
            continue
        looked_at += 1
        if looked_at % 7 == 0:
            clock.advance(seconds=4000)
            assert 200 == (await alice.log_in()).status_code  # a success resets the wait, not the budget
            clock.next_step()
    clock.advance(seconds=4000)
    wait = wait_of(await alice.log_in())
    ends = 30 * 86400 - (clock.now - start).total_seconds()
    assert abs(wait - ends) < 10
    clock.advance(seconds=wait - 1)
    assert 429 == (await alice.log_in()).status_code
    clock.advance(seconds=2)
    assert 200 == (await alice.log_in()).status_code


async def test_parallel_guesses_are_bounded_across_tokens_and_addresses(
    client: Client, clock: MovableClock, alice: Person
) -> None:
    """Forty pending tokens at forty addresses, ten codes each at once: five codes are compared."""
    tokens = [await alice.pending() for _ in range(40)]
    wrong = alice.wrong_code()
    clients = [client.at(f"198.51.100.{number}") for number in range(40)]
    answers = await asyncio.gather(
        *(
            client.post("/login-2fa", json={"mfa_token": token, "otp": wrong})
            for client, token in zip(clients, tokens, strict=True)
            for _ in range(10)
        )
    )
    counted = Counter(answer.json()["code"] for answer in answers)
    assert 5 == counted["invalid_code"]
    assert {"invalid_code", "too_many_attempts", "invalid_token"} >= set(counted)


async def test_two_replicas_share_rate_limits_and_budgets(
    production: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """Alternating between two replicas allows no more guesses of passwords or of codes than one replica does."""
    async with open_client(production) as one, open_client(production) as two:
        alice = await sign_up(one, clock)
        await alice.confirm()
        clock.next_step()
        statuses = [(await guess(replica)).status_code for _ in range(4) for replica in (one, two)]
        assert [401] * 5 + [429] * 3 == statuses
        clock.advance(seconds=60)
        pending = await alice.pending()
        wrong = {"mfa_token": pending, "otp": alice.wrong_code()}
        codes = [
            (await client.post("/login-2fa", json=wrong)).json()["code"] for _ in range(3) for client in (one, two)
        ]
        assert ["invalid_code"] * 5 + ["invalid_token"] == codes


async def test_limits_can_be_switched_off(embedded: dict[str, Any], open_client: Opener, clock: MovableClock) -> None:
    """Without password limits no password waits. The budget of codes cannot be switched off."""
    off = dict.fromkeys(("limit_login", "limit_login_address", "limit_login_username", "limit_signup"))
    async with open_client({**embedded, **off}) as client:
        alice = await sign_up(client, clock)
        for _ in range(70):
            assert 401 == (await guess(client)).status_code
        for _ in range(5):
            await alice.log_in(alice.wrong_code())
        assert 429 == (await alice.log_in()).status_code
