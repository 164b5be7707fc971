"""The attacks on links while the service is busy or limited, and the tokens that they forge."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.app import create_app
from service.attack.forged import encode
from service.attack.links import foreign, forged
from service.settings import Settings
from service.users.passwords import CHEAPEST
from tests.harness.attacks import names, run_attack
from tests.harness.databases import PATIENT
from tests.harness.servers import make_schema
from tests.harness.spoiled import Forward, ForwardedRequest, ForwardedResponse, TamperingApp, listening

pytestmark = pytest.mark.heavy

FORGED, ANSWERS = "Forged and foreign tokens of links", "Answers to requests for a link"
RESET = "/password-reset"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[TamperingApp]:
    settings = Settings(data_dir=tmp_path / "data", limit_signup=None, limit_login_address=None)
    make_schema(settings)
    spoiled = TamperingApp(create_app(settings, hash_cost=CHEAPEST, timeouts=PATIENT))
    with listening(spoiled) as spoiled.url:
        yield spoiled


def refused(status: int) -> ForwardedResponse:
    return ForwardedResponse(status, (("retry-after", "1"),), b"{}")


@pytest.mark.parametrize("status", [429, 503])
async def test_a_login_that_is_delayed_after_forged_links_proves_nothing(service: TamperingApp, status: int) -> None:
    """Whether a forged link changed the password is then unknown, so the attack is not tried."""
    seen: set[str] = set()

    async def delays_logins(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        seen.add(request.path)
        is_it = request.path == "/login" and "/email/confirm" in seen
        return refused(status) if is_it else await forward(request)

    service.by = delays_logins
    report = await run_attack(service.url, "links")
    assert {FORGED} == names(report, "not tried"), report.text()
    assert set() == names(report, "broken"), report.text()


async def test_a_request_for_a_link_is_repeated_while_the_service_is_busy(service: TamperingApp) -> None:
    """One 503 with `Retry-After` reveals nothing about a user."""
    statuses: list[int] = []

    async def is_busy_once(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        if request.path != RESET or request.method != "POST":
            return await forward(request)
        given = refused(503) if len(statuses) == 1 else await forward(request)
        statuses.append(given.status)
        return given

    service.by = is_busy_once
    report = await run_attack(service.url, "links")
    assert [202, 503, 202] == statuses[:3]
    assert ANSWERS in names(report, "held"), report.text()


def test_foreign_tokens_keep_their_content() -> None:
    """Each is sent as it is and with the prefix of links, and the MAC of a refresh token ends a link's claims."""
    mac = bytes(range(32))
    refresh = "ktr_" + encode(b"a" * 20 + mac)
    others = {"an access token": "e_0.e_1.x", "a refresh token": refresh, "a username": "attack-1"}
    assert {
        "an access token": "e_0.e_1.x",
        "an access token with the prefix of links": "ktl_e_0.e_1.x",
        "a refresh token": refresh,
        "a refresh token with the prefix of links": "ktl_" + encode(b"a" * 20 + mac),
        "a username": "attack-1",
        "a username with the prefix of links": "ktl_attack-1",
        "a reset with the MAC of a refresh token": "ktl_" + encode(b"[1]" + mac),
    } == foreign(others, refresh=refresh, body=b"[1]")


def test_no_forged_token_is_sent_twice() -> None:
    """The report says how many tokens were refused."""
    tokens = dict(forged("sub", "a@attack.invalid", 1_800_000_000))
    assert len(tokens) == len(set(tokens.values()))
