"""Characters that keyboards and pasting add to usernames and codes are removed; all else stays strict."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from httpx2 import AsyncClient

from service.factors import recovery_codes
from service.typed_text import trim, without_separators
from service.users import users
from tests.harness.clients import Opener
from tests.harness.enrolment import enrolled, recover
from tests.harness.people import PASSWORD, MovableClock, Person, sign_up

AROUND = [" ", "\n", "\r\n", "\t", "\u00a0", "\u202f", "\u3000", "\u2009", "\ufeff", "\u200b", "\u200d", "\u200e",
          "\u202a", "\u2060", "\u2069", "\u00ad", "\u180e", "\u0085", " \u00a0\n"]  # fmt: skip
"""White space and invisible characters that keyboards, documents and web pages add."""

BETWEEN = [
    *AROUND,
    "-",
    "\u2010",
    "\u2011",
    "\u2012",
    "\u2013",
    "\u2014",
    "\u2212",
    "\ufe63",
    "\uff0d",
    "_",
    ".",
    " - ",
]
"""Characters between the groups of a code."""


@pytest.mark.parametrize("extra", AROUND, ids=ascii)
def test_a_username_has_one_spelling(extra: str) -> None:
    """Invisible characters around it are removed; inside, they make another name, which is refused."""
    for typed in (f"Alice{extra}", f"{extra}alice", f"{extra}alice{extra}"):
        assert "alice" == users.normalise(typed)
    with pytest.raises(ValueError, match="needs 3 to"):
        users.normalise(f"al{extra}ice")


@pytest.mark.parametrize("extra", BETWEEN, ids=ascii)
def test_a_code_has_one_spelling(extra: str) -> None:
    """Characters in it and around it are removed, so that six ASCII digits remain."""
    for typed in (f"123{extra}456", f"{extra}123456", f"123456{extra}", extra.join("123456")):
        assert "123456" == without_separators(typed)


@pytest.mark.parametrize("extra", BETWEEN, ids=ascii)
def test_a_recovery_code_has_one_spelling(extra: str) -> None:
    """Dashes of any kind are removed, and lower case is accepted."""
    groups = ("abcd", "efgh", "jkmn", "o234")
    assert (
        "ABCDEFGHJKMNO234"
        == recovery_codes.normalise(extra.join(groups))
        == recovery_codes.normalise(f"{''.join(groups)}{extra}")
    )


@pytest.mark.parametrize("code", ["ABCDEFGHJKMNO238", "ABCDEFGHJKMNO239", "ABCDEFGHJKMNO23", "ABCDEFGHJKMNO2345",
                                  "ABCDEFGHJKMNO23\u0131", "ABCDEFGHJKMNO23\u017f", "ABCDEFGHJKMNO23\uff34", "",
                                  "ABCDEFGHJKM\ufb01234", "ABCDEFGHJKMN0234\0", "ABCD,EFGH,JKMN,O234"])  # fmt: skip
def test_an_impossible_recovery_code_is_refused(code: str) -> None:
    """It has another length, digits that no code has, or letters that only upper-casing makes valid."""
    assert recovery_codes.normalise(code) is None


def test_trimming_is_linear_and_changes_nothing_else() -> None:
    """Visible characters of any script stay; half a million invisible ones are removed quickly."""
    for text in ("Zo\u00eb", "\u3164", "a b", "\u0600", "e\u0301", "\U0001f468\u200d\U0001f469"):
        assert text == trim(text)
    assert "a" == trim(" \ufeff" * 250_000 + "a" + "\u200b" * 500_000)
    assert "ab" == without_separators("a" + " \u2011" * 250_000 + "b")


async def post(client: AsyncClient, path: str, **body: Any) -> int:
    return (await client.post(path, json=body)).status_code


@pytest.fixture
async def recovering(world: dict[str, Any], open_client: Opener) -> AsyncIterator[AsyncClient]:
    """A client of a service where `POST /recovery` is on."""
    async with open_client({**world, "recovery_delay": "72h"}) as opened:
        yield opened


async def test_every_endpoint_accepts_a_username_as_typed(recovering: AsyncClient, clock: MovableClock) -> None:
    """`/signup`, `/qrcode`, `/login`, `/recovery` and `/disable-mfa` find one user; a second `/signup` is refused."""
    client = recovering
    for number, form in enumerate(("{} ", " {}", "\ufeff{}", "{}\u00a0", "\u200b{}\n")):
        plain = f"alice{number}"
        typed = form.format(plain.upper())
        first = await client.post("/signup", json={"username": typed, "password": PASSWORD, "enable_mfa": True})
        assert (201, plain) == (first.status_code, first.json()["username"])
        assert 409 == await post(client, "/signup", username=plain, password=PASSWORD)
        bearer = {"Authorization": f"Bearer {first.json()['mfa_token']}"}
        shown = await client.get(f"/qrcode/{quote(typed)}", headers={**bearer, "Accept": "application/json"})
        assert 200 == shown.status_code, shown.text
        alice = Person(client, clock, typed, secret=shown.json()["secret"], mfa_token=first.json()["mfa_token"])
        await alice.confirm()
        clock.next_step()
        assert 202 == await post(client, "/recovery", username=typed, password=PASSWORD)
        assert 200 == (await alice.disable()).status_code
        assert 200 == (await alice.give_password()).status_code


async def test_every_endpoint_accepts_a_code_as_typed(client: AsyncClient, clock: MovableClock) -> None:
    """These are `/login-2fa` with both names of the field, and `/disable-mfa`."""
    for number, form in enumerate(("{} {}", "{}{}\n", " {}{}", "\u00a0{}{}", "{}-{}", "{}\u200b{}")):
        alice = await sign_up(client, clock, f"alice{number}")

        def typed(alice: Person = alice, form: str = form) -> str:
            code = alice.code()
            return form.format(code[:3], code[3:])

        assert 200 == (await alice.give_code(typed(), alice.mfa_token)).status_code
        clock.next_step()
        assert 200 == await post(client, "/login-2fa", mfa_token=await alice.pending(), token=typed())
        clock.next_step()
        assert 200 == (await alice.disable(typed())).status_code


async def test_a_code_and_its_other_spellings_are_one_code(client: AsyncClient, clock: MovableClock) -> None:
    """Of `123456`, `123 456` and more spellings at once exactly one is accepted, and none later."""
    alice = await sign_up(client, clock)
    await alice.confirm()
    clock.next_step()
    code = alice.code()
    spellings = [code, f"{code[:3]} {code[3:]}", f"{code}\n", f"\u00a0{code}", "-".join(code)]
    tokens = [await alice.pending() for _ in spellings]
    answers = await asyncio.gather(*map(alice.give_code, spellings, tokens))
    assert [200] == [answer.status_code for answer in answers if answer.status_code == 200]
    assert "invalid_code" == (await alice.give_code(f"{code[:2]} {code[2:]}")).json()["code"]


async def test_a_recovery_code_and_its_other_spellings_are_one_code(client: AsyncClient, clock: MovableClock) -> None:
    """Of all spellings at once exactly one is accepted, and none later."""
    carol, codes = await enrolled(client, clock)
    code = codes[0]
    ones = code.replace("I", "1").replace("L", "1").replace("O", "0")
    spellings = [code, code.lower(), code.replace("-", "\u2011"), ones, f" {code}\n"]
    tokens = [await carol.pending() for _ in spellings]
    answers = await asyncio.gather(*map(lambda *given: recover(carol, *given), spellings, tokens))
    assert [200] == [answer.status_code for answer in answers if answer.status_code == 200]
    assert "invalid_code" == (await recover(carol, ones)).json()["code"]


def test_the_readings_of_a_recovery_code() -> None:
    """`0` reads as `O`; `1`, `I` and `L` as each other, the typed one first; there are at most 256 readings."""

    def readings(code: str) -> list[str]:
        normalised = recovery_codes.normalise(code)
        assert normalised is not None
        return list(recovery_codes.readings(normalised))

    assert ["ABCDEFGHJKMNO234"] == readings("abcd-efgh-jkmn-0234")
    assert ["IBCDEFGHJKMNO234", "LBCDEFGHJKMNO234"] == readings("1BCD-EFGH-JKMN-O234")
    assert ["LBCDEFGHJKMNO23I", "LBCDEFGHJKMNO23L", "IBCDEFGHJKMNO23I", "IBCDEFGHJKMNO23L"] == readings(
        "LBCD-EFGH-JKMN-O23I"
    )
    assert 256 == len(set(readings("1I1L1I1LABCDEFGH")))
    assert ["ILILILILILABCDEF"] == readings("ILILILILILABCDEF")
    assert 4 == len(readings("1LILILILI1ABCDEF"))
    assert [] == readings("1111111111111111")


async def test_a_misread_recovery_code_is_accepted(client: AsyncClient, clock: MovableClock) -> None:
    """Each of ten codes, with `O` as 0, and `I` and `L` as 1 or as each other, is accepted once."""
    carol, codes = await enrolled(client, clock)
    swapped = str.maketrans("ILO", "LI0")
    misread = str.maketrans("ILO", "110")
    for number, code in enumerate(codes):
        answer = await recover(carol, code.translate(swapped if number % 2 else misread))
        assert (200, 9 - number) == (answer.status_code, answer.json()["recovery_codes_left"]), code
        assert "invalid_code" == (await recover(carol, code)).json()["code"]


async def test_all_readings_are_one_attempt(client: AsyncClient, clock: MovableClock) -> None:
    """A wrong code with eight ones is charged like any wrong code: after five the next one is throttled."""
    carol, codes = await enrolled(client, clock)
    for _ in range(5):
        assert "invalid_code" == (await recover(carol, "1111-1111-AAAA-AAAA")).json()["code"]
    assert 429 == (await recover(carol, codes[0])).status_code


async def test_wrong_types_are_refused(client: AsyncClient) -> None:
    """A number is neither a code nor a name, whatever its digits are; the answer names the field."""
    for value in (123456, 123456.0, True, ["123456"], {"a": "123456"}):
        for path, body, field in (
            ("/login", {"username": value, "password": PASSWORD}, "username"),
            ("/disable-mfa", {"username": "alice", "password": PASSWORD, "token": value}, "token"),
            ("/login-2fa", {"mfa_token": "e30.e30.e30", "otp": value}, "otp"),
            ("/login-2fa", {"mfa_token": "e30.e30.e30", "recovery_code": value}, "recovery_code"),
        ):
            answer = await client.post(path, json=body)
            assert (422, [field]) == (answer.status_code, [error["field"] for error in answer.json()["errors"]])
