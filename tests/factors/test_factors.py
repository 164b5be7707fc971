"""Several authenticators of one user, and clocks that are out of step. SQLite and PostgreSQL."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from httpx2 import AsyncClient, Response

from service.factors.counts import count_by_drift
from service.factors.second_factor import KINDS, METHODS, SecondFactors
from tests.harness.clients import Client
from tests.harness.people import PASSWORD, MovableClock, Person, secret_in, sign_up
from tests.harness.sessions import bearer, claims

STEP = 30


@pytest.fixture
async def tokens(alice: Person, clock: MovableClock) -> dict[str, Any]:
    """The tokens of a login with both factors; a new time step has begun since."""
    answer: dict[str, Any] = (await alice.log_in()).json()
    clock.next_step()
    return answer


async def test_the_kinds_of_second_factor_are_a_closed_set(client: Client) -> None:
    """The second factor has one of each kind, and their methods are those that answers name."""
    made = client.parts.second_factors
    assert METHODS == made.methods(is_confirmed=True)
    assert len(KINDS) == len(set(METHODS))
    for kinds in ((made.totp, made.totp), (made.recovery_codes, made.totp)):
        with pytest.raises(RuntimeError, match="one of each kind"):
            SecondFactors(*kinds)
    with pytest.raises(RuntimeError, match="one of each kind"):
        SecondFactors(made.totp, made.recovery_codes, made.totp)


async def request_addition(client: AsyncClient, access: str, name: str | None = "Tablet") -> Response:
    body = {"password": PASSWORD, **({} if name is None else {"name": name})}
    return await client.post("/enable-mfa", json=body, headers=bearer(access))


async def add(alice: Person, tokens: dict[str, Any], name: str = "Tablet") -> Person:
    """Add and confirm another authenticator of the user, and return the user with it."""
    addition = await request_addition(alice.client, tokens["access_token"], name)
    assert 200 == addition.status_code, addition.text
    other = replace(alice, secret=secret_in(addition.json()["provisioning_uri"]))
    confirmed = await other.give_code(mfa_token=addition.json()["mfa_token"])
    assert 200 == confirmed.status_code, confirmed.text
    tokens["access_token"] = confirmed.json()["access_token"]
    return other


async def list_factors(client: AsyncClient, tokens: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await client.get("/factors", headers=bearer(tokens["access_token"]))
    listed: list[dict[str, Any]] = answer.json()["factors"]
    return listed


def code_of(answer: Response) -> str:
    return str(answer.json().get("code", answer.status_code))


# --- several authenticators ---


async def test_both_authenticators_log_in(alice: Person, tokens: dict[str, Any], clock: MovableClock) -> None:
    """The phone works as before, and so does the tablet; each has its own used codes."""
    tablet = await add(alice, tokens)
    clock.next_step()
    assert 200 == (await alice.log_in()).status_code
    assert 200 == (await tablet.log_in()).status_code
    assert "invalid_code" == code_of(await alice.log_in())
    assert "invalid_code" == code_of(await tablet.log_in())


async def test_another_authenticator_is_confirmed_in_the_running_session(
    client: AsyncClient, alice: Person, tokens: dict[str, Any]
) -> None:
    """Its first code raises the session of the request: no session opens or ends, and recovery codes stay."""
    addition = (await request_addition(client, tokens["access_token"])).json()
    tablet = replace(alice, secret=secret_in(addition["provisioning_uri"]))
    answer = (await tablet.give_code(mfa_token=addition["mfa_token"])).json()
    assert claims(tokens["access_token"])["sid"] == claims(answer["access_token"])["sid"]
    assert {"refresh_token", "recovery_codes"}.isdisjoint(answer)
    again = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert 200 == (await client.post("/token", data=again)).status_code
    assert "invalid_token" == code_of(await tablet.give_code(mfa_token=addition["mfa_token"]))


async def test_each_authenticator_has_its_name(client: AsyncClient, alice: Person, tokens: dict[str, Any]) -> None:
    """`GET /factors` lists them, the oldest first, without their secrets."""
    await add(alice, tokens, "Tablet \U0001f511")
    phone, tablet = await list_factors(client, tokens)
    assert ("Authenticator", "Tablet \U0001f511") == (phone["name"], tablet["name"])
    assert {
        "id",
        "type",
        "name",
        "created_at",
        "confirmed_at",
        "last_used_at",
        "offset_seconds",
        "weak_secret",
    } == set(phone)
    assert phone["last_used_at"] < tablet["last_used_at"]


async def test_the_label_of_another_authenticator_has_its_name(
    client: AsyncClient, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """The app can distinguish two entries of one account, even if the name is that of the first one."""
    for name, label in (("Tablet", "%20%28Tablet%29"), ("Authenticator", "%20%28Authenticator%29")):
        addition = (await request_addition(client, tokens["access_token"], name)).json()
        shown = (await client.get("/qrcode/alice/secret", headers=bearer(addition["mfa_token"]))).json()
        assert addition["provisioning_uri"] == shown["provisioning_uri"]
        assert shown["provisioning_uri"].startswith(f"otpauth://totp/Keyturn:alice{label}?")
    bob = await sign_up(client, clock, "bob")
    first = (await client.get("/qrcode/bob/secret", headers=bearer(bob.mfa_token))).json()
    assert first["provisioning_uri"].startswith("otpauth://totp/Keyturn:bob?")


async def test_another_authenticator_must_have_a_name(client: AsyncClient, tokens: dict[str, Any]) -> None:
    """So a user who wants to enrol again does not add one by mistake."""
    assert "mfa_already_enabled" == code_of(await request_addition(client, tokens["access_token"], None))
    for name in (
        "",
        "x" * 65,
        "bell\x07",
        "\x85",
        "\u202egnp.exe",
        "line\u2028break",
        " ",
        "\u200b",
        "\u200d",
        "a\ufeff",
    ):
        assert "invalid_request" == code_of(await request_addition(client, tokens["access_token"], name)), name
    assert 1 == len(await list_factors(client, tokens))


@pytest.mark.parametrize(
    "name", ["\U0001f469\u200d\U0001f4bb", "\u96fb\u8a71\u3000\u4e8c", "\u062a\u0644\u200c\u0647"]
)
async def test_a_name_may_have_what_scripts_and_emojis_need(
    client: AsyncClient, alice: Person, tokens: dict[str, Any], name: str
) -> None:
    """Joiners are invisible and have a meaning; a space may be a wide one."""
    await add(alice, tokens, name)
    assert name in {factor["name"] for factor in await list_factors(client, tokens)}


async def test_a_password_and_an_old_session_add_nothing(
    client: AsyncClient, tokens: dict[str, Any], clock: MovableClock
) -> None:
    """A second factor of the last 300 s is required: a stolen session and password cannot add a phone."""
    clock.advance(seconds=301)
    refused = await request_addition(client, tokens["access_token"])
    assert "insufficient_user_authentication" == code_of(refused)
    assert 'acr_values="aal2", max_age="300"' in refused.headers["www-authenticate"]


async def test_an_addition_neither_shows_nor_replaces_the_first(
    client: AsyncClient, alice: Person, tokens: dict[str, Any], clock: MovableClock
) -> None:
    """The token of an addition shows only the new secret, whose codes are refused until it is confirmed."""
    addition = (await request_addition(client, tokens["access_token"])).json()
    as_json = {**bearer(addition["mfa_token"]), "Accept": "application/json"}
    shown = (await client.get("/qrcode/alice", headers=as_json)).json()
    assert secret_in(addition["provisioning_uri"]) == shown["secret"] != alice.secret
    pending = await alice.pending()
    assert 404 == (await client.get("/qrcode/alice", headers=bearer(pending))).status_code
    tablet = replace(alice, secret=shown["secret"])
    assert "invalid_code" == code_of(await tablet.give_code(mfa_token=pending))
    assert "invalid_code" == code_of(await alice.give_code(mfa_token=addition["mfa_token"]))
    assert 200 == (await alice.give_code(mfa_token=pending)).status_code


async def test_a_recovery_code_confirms_nothing(client: AsyncClient, clock: MovableClock) -> None:
    """It proves that a phone was lost, not that another one exists."""
    alice = await sign_up(client, clock)
    confirmed = (await alice.confirm()).json()
    addition = (await request_addition(client, confirmed["access_token"])).json()
    body = {"mfa_token": addition["mfa_token"], "recovery_code": confirmed["recovery_codes"][0]}
    assert "invalid_code" == code_of(await client.post("/login-2fa", json=body))
    assert [None] == [f["confirmed_at"] for f in await list_factors(client, confirmed) if f["name"] == "Tablet"]


async def test_a_lost_authenticator_can_be_removed(
    client: AsyncClient, alice: Person, tokens: dict[str, Any], clock: MovableClock
) -> None:
    """Its codes and pending tokens are void at once, and every other session ends: an attacker may have the phone."""
    tablet = await add(alice, tokens)
    clock.next_step()
    other = (await tablet.log_in()).json()
    pending = await alice.pending()
    lost = (await list_factors(client, tokens))[1]["id"]
    answer = await client.delete(f"/factors/{lost}", headers=bearer(tokens["access_token"]))
    assert 204 == answer.status_code
    clock.next_step()
    assert "invalid_token" == code_of(await alice.give_code(mfa_token=pending))
    assert "invalid_code" == code_of(await tablet.log_in())
    assert 200 == (await alice.log_in()).status_code
    assert 401 == (await client.get("/me", headers=bearer(other["access_token"]))).status_code
    assert 200 == (await client.get("/me", headers=bearer(tokens["access_token"]))).status_code


async def test_the_last_authenticator_stays(client: AsyncClient, alice: Person, tokens: dict[str, Any]) -> None:
    """Only `/disable-mfa` removes it, which takes its code."""
    (phone,) = await list_factors(client, tokens)
    access = bearer(tokens["access_token"])
    assert "last_factor" == code_of(await client.delete(f"/factors/{phone['id']}", headers=access))
    await request_addition(client, tokens["access_token"])
    assert "last_factor" == code_of(await client.delete(f"/factors/{phone['id']}", headers=access)), "unconfirmed"
    assert 200 == (await alice.log_in()).status_code


async def test_an_addition_can_be_cancelled(client: AsyncClient, alice: Person, tokens: dict[str, Any]) -> None:
    """Removing an unconfirmed authenticator ends no session; its pending token is revoked."""
    addition = (await request_addition(client, tokens["access_token"])).json()
    unconfirmed = (await list_factors(client, tokens))[1]["id"]
    other = (await alice.log_in()).json()
    assert 204 == (await client.delete(f"/factors/{unconfirmed}", headers=bearer(tokens["access_token"]))).status_code
    assert 200 == (await client.get("/me", headers=bearer(other["access_token"]))).status_code
    tablet = replace(alice, secret=secret_in(addition["provisioning_uri"]))
    assert "invalid_token" == code_of(await tablet.give_code(mfa_token=addition["mfa_token"]))


async def test_users_remove_only_their_own_authenticators(
    client: AsyncClient, alice: Person, tokens: dict[str, Any], clock: MovableClock
) -> None:
    """Another user's, an unknown and an invalid id have one answer; an old proof is not enough."""
    bob = await sign_up(client, clock, "bob")
    bobs = (await bob.confirm()).json()
    (factor,) = await list_factors(client, bobs)
    for unknown in (factor["id"], "0" * 22, "'; DROP TABLE factors; --", "a%00b", "%ED%A0%80"):
        answer = await client.delete(f"/factors/{unknown}", headers=bearer(tokens["access_token"]))
        assert "not_found" == code_of(answer)
    clock.advance(seconds=301)
    answer = await client.delete(f"/factors/{factor['id']}", headers=bearer(bobs["access_token"]))
    assert "insufficient_user_authentication" == code_of(answer)


async def test_five_authenticators_at_most(client: AsyncClient, alice: Person, tokens: dict[str, Any]) -> None:
    """Each one makes a guess more likely to succeed."""
    for number in range(4):
        await add(alice, tokens, f"Number {number}")
    assert "too_many_factors" == code_of(await request_addition(client, tokens["access_token"]))


async def test_of_two_removed_at_once_one_stays(client: AsyncClient, alice: Person, tokens: dict[str, Any]) -> None:
    """Two browser tabs cannot remove the second factor together."""
    await add(alice, tokens)
    access = bearer(tokens["access_token"])
    ids = [factor["id"] for factor in await list_factors(client, tokens)]
    await asyncio.gather(*(client.delete(f"/factors/{factor}", headers=access) for factor in ids))
    assert len(await list_factors(client, tokens)) >= 1
    assert (await alice.give_password()).json()["mfa_required"]


async def test_a_guess_is_charged_to_every_authenticator(
    client: AsyncClient, alice: Person, tokens: dict[str, Any], clock: MovableClock
) -> None:
    """The code is compared with all of them. After five all wait; a success of any of them resets them all."""
    tablet = await add(alice, tokens)
    clock.next_step()
    for _ in range(5):
        assert "invalid_code" == code_of(await alice.log_in(alice.wrong_code()))
    assert "too_many_attempts" == code_of(await tablet.log_in())
    assert "too_many_attempts" == code_of(await alice.log_in())
    clock.advance(seconds=31)
    assert 200 == (await tablet.log_in()).status_code
    for _ in range(4):
        assert "invalid_code" == code_of(await alice.log_in(alice.wrong_code()))
    assert 200 == (await alice.log_in()).status_code, "the tablet's success reset the phone's count"


async def test_two_authenticators_log_in_at_once(alice: Person, tokens: dict[str, Any], clock: MovableClock) -> None:
    """Logins of the laptop and the phone at the same moment all succeed, repeatedly."""
    tablet = await add(alice, tokens)
    for _ in range(20):
        clock.next_step()
        both = await asyncio.gather(alice.log_in(), tablet.log_in())
        assert [200, 200] == [answer.status_code for answer in both]


async def test_any_authenticator_can_disable_the_second_factor(
    alice: Person, tokens: dict[str, Any], clock: MovableClock
) -> None:
    """Then no authenticator is left."""
    tablet = await add(alice, tokens)
    clock.next_step()
    assert 200 == (await tablet.disable()).status_code
    assert not (await alice.give_password()).json()["mfa_required"]


# --- a clock that is out of step ---


@pytest.fixture
def clock_off_by(clock: MovableClock) -> "Off":
    """A function that returns the user with an authenticator whose clock is ahead by a number of steps."""

    def of(person: Person, steps: int) -> Person:
        return replace(person, clock=lambda: clock.now + timedelta(seconds=STEP * steps))

    return of


Off = Callable[[Person, int], Person]


@pytest.mark.parametrize("steps", [-11, -7, -2, 2, 6, 11])
async def test_a_clock_out_of_step_is_reported(
    client: AsyncClient, clock: MovableClock, clock_off_by: Off, steps: int
) -> None:
    """The answer has the offset and the service's time; the code is refused, and the attempt is charged."""
    alice = await sign_up(client, clock)
    late = clock_off_by(alice, steps)
    refused = await late.give_code(mfa_token=alice.mfa_token)
    assert (401, "code_out_of_step") == (refused.status_code, code_of(refused))
    said = refused.json()
    assert (steps * STEP, int(clock().timestamp())) == (said["offset_seconds"], said["server_time"])
    assert "25" == refused.headers["retry-after"], "the time until the next code"


@pytest.mark.parametrize("steps", [-12, 12, 100])
async def test_a_code_far_out_of_step_is_a_wrong_code(
    client: AsyncClient, clock: MovableClock, clock_off_by: Off, steps: int
) -> None:
    """Beyond ten steps outside the window nothing is reported."""
    alice = await sign_up(client, clock)
    assert "invalid_code" == code_of(await clock_off_by(alice, steps).give_code(mfa_token=alice.mfa_token))


async def test_the_offset_is_not_reported_without_the_password(alice: Person, clock_off_by: Off) -> None:
    """`/disable-mfa` has one refusal for all causes."""
    assert "invalid_credentials" == code_of(await alice.disable(alice.code(5)))


@pytest.mark.parametrize("steps", [-11, -4, 3, 11])
async def test_two_codes_in_a_row_realign(
    client: AsyncClient, alice: Person, clock: MovableClock, clock_off_by: Off, steps: int
) -> None:
    """RFC 6238 section 6: the second of two consecutive codes is accepted, and the drift is stored."""
    clock.advance(seconds=12 * STEP)
    late = clock_off_by(alice, steps)
    assert "code_out_of_step" == code_of(await late.log_in())
    clock.next_step()
    answer = await late.log_in()
    assert 200 == answer.status_code, answer.text
    assert "aal2" == claims(answer.json()["access_token"])["acr"]
    (factor,) = await list_factors(client, answer.json())
    assert steps * STEP == factor["offset_seconds"]
    for shift in (0, -1, 1):
        clock.advance(seconds=3 * STEP)
        assert 200 == (await late.log_in(late.code(shift))).status_code, "the window is around that clock"
    clock.advance(seconds=3 * STEP)
    assert 401 == (await alice.log_in()).status_code, "the window is not around the service's clock"


async def test_a_corrected_clock_realigns_too(
    client: AsyncClient, alice: Person, clock: MovableClock, clock_off_by: Off
) -> None:
    """It does when its codes are later than the last used one, because no step is accepted twice."""
    early = clock_off_by(alice, 4)
    assert "code_out_of_step" == code_of(await early.log_in())
    clock.next_step()
    assert 200 == (await early.log_in()).status_code
    clock.next_step()
    assert "invalid_code" == code_of(await alice.log_in()), "that step is before the last used one"
    clock.advance(seconds=4 * STEP)
    assert "code_out_of_step" == code_of(await alice.log_in())
    clock.next_step()
    assert 200 == (await alice.log_in()).status_code


async def test_a_corrected_clock_is_reported_as_one_that_differs_from_the_stored_offset(
    alice: Person, clock: MovableClock, clock_off_by: Off
) -> None:
    """The sentence does not say that a clock is wrong that is right; the next code stores the new offset."""
    clock.advance(seconds=12 * STEP)
    late = clock_off_by(alice, -6)
    assert "The authenticator's clock is wrong." in (await late.log_in()).json()["title"]
    clock.next_step()
    assert 200 == (await late.log_in()).status_code
    clock.next_step()
    said = (await alice.log_in()).json()
    assert ("code_out_of_step", 0) == (said["code"], said["offset_seconds"])
    assert "differs from the stored offset" in said["title"]
    clock.next_step()
    assert 200 == (await alice.log_in()).status_code


async def test_an_enrolment_with_a_wrong_clock_is_confirmed(
    client: AsyncClient, clock: MovableClock, clock_off_by: Off
) -> None:
    """Most users notice the wrong clock at the enrolment."""
    late = clock_off_by(await sign_up(client, clock), -5)
    assert "code_out_of_step" == code_of(await late.give_code(mfa_token=late.mfa_token))
    clock.next_step()
    answer = await late.give_code(mfa_token=late.mfa_token)
    assert 10 == len(answer.json()["recovery_codes"])


async def test_only_the_very_next_code_realigns(alice: Person, clock: MovableClock, clock_off_by: Off) -> None:
    """The code after it, the one before it, the same one, and one later than 90 s do not."""
    clock.advance(seconds=12 * STEP)
    late = clock_off_by(alice, 5)
    assert "code_out_of_step" == code_of(await late.log_in())
    assert "invalid_code" == code_of(await late.log_in()), "the same code"
    assert "invalid_code" == code_of(await late.log_in(late.code(-1)))
    assert "code_out_of_step" == code_of(await late.log_in(late.code(2)))
    clock.advance(seconds=91)
    assert "code_out_of_step" == code_of(await late.log_in(alice.code(5)))


async def test_a_code_reported_out_of_step_is_never_accepted_later(alice: Person, clock: MovableClock) -> None:
    """An attacker whose guess is reported as four steps ahead cannot use it when its time comes."""
    reported = alice.code(4)
    assert "code_out_of_step" == code_of(await alice.log_in(reported))
    clock.advance(seconds=4 * STEP)
    assert reported == alice.code()
    assert "invalid_code" == code_of(await alice.log_in(reported))
    clock.next_step()
    assert 200 == (await alice.log_in()).status_code


async def test_a_clock_is_reported_once_and_realigned_once(
    alice: Person, clock: MovableClock, clock_off_by: Off
) -> None:
    """Of four concurrent requests in each step one gets the report, and one is accepted."""
    late = clock_off_by(alice, 6)
    for expected in ("code_out_of_step", "200"):
        pendings = [await alice.pending() for _ in range(4)]
        answers = await asyncio.gather(*(late.give_code(mfa_token=pending) for pending in pendings))
        assert 1 == [code_of(answer) for answer in answers].count(expected)
        clock.advance(seconds=STEP)


async def test_reports_are_charged(alice: Person, clock: MovableClock, clock_off_by: Off) -> None:
    """After five codes out of step the factor waits as after any five failures."""
    for steps in (3, 5, 7, 9, 11):
        assert "code_out_of_step" == code_of(await alice.log_in(alice.code(steps)))
    assert "too_many_attempts" == code_of(await alice.log_in())


async def test_the_drift_is_stored(
    client: AsyncClient, alice: Person, tokens: dict[str, Any], clock: MovableClock, clock_off_by: Off
) -> None:
    """Each success stores it, for the user and for the operator."""
    clock.advance(seconds=3 * STEP)
    answer = (await clock_off_by(alice, -1).log_in()).json()
    (factor,) = await list_factors(client, answer)
    assert -STEP == factor["offset_seconds"]


async def test_the_drift_of_many_factors_is_counted_in_pages(
    client: Client, alice: Person, clock: MovableClock, clock_off_by: Off
) -> None:
    """Page after page counts each authenticator once."""
    for n, steps in enumerate((0, 1, 1, 0, -1)):
        person = await sign_up(client, clock, f"person{n}")
        await clock_off_by(person, steps).give_code(mfa_token=person.mfa_token)
    database = client.parts.database
    for at_once in (1, 2, 4, 6, 7):
        counted: Counter[int] = Counter()
        reached, pages = "", 0
        while reached or not pages:
            drifts, reached = await count_by_drift(database, reached, page_size=at_once)
            counted.update(drifts)
            pages += 1
        assert {-1: 1, 0: 3, 1: 2} == counted
        assert pages == 6 // at_once + 1


async def test_the_drift_is_a_metric(client: Client, alice: Person, clock: MovableClock, clock_off_by: Off) -> None:
    """It has the number of authenticators by their drift in steps, in Prometheus' text format."""
    bob = await sign_up(client, clock, "bob")
    await clock_off_by(bob, 1).give_code(mfa_token=bob.mfa_token)
    await sign_up(client, clock, "carol")
    await client.parts.database_metrics.count_factors()
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    figures = [line for line in answer.text.splitlines() if line.startswith("keyturn_factors{")]
    assert ['keyturn_factors{drift_steps="0"} 1.0', 'keyturn_factors{drift_steps="1"} 1.0'] == figures
