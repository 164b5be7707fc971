"""The attack on the device cookie, where a known device replaces the second factor: each defect is detected."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from service.app import create_app
from service.settings import Settings
from service.users.passwords import CHEAPEST
from tests.harness.attacks import names, run_attack
from tests.harness.databases import PATIENT
from tests.harness.servers import make_schema
from tests.harness.spoiled import (
    Forward,
    ForwardedRequest,
    ForwardedResponse,
    Tamper,
    TamperingApp,
    honest,
    listening,
)

pytestmark = pytest.mark.heavy

ATTACK = "The device cookie of a browser"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TamperingApp]:
    folder = tmp_path_factory.mktemp("attacked")
    settings = Settings(data_dir=folder, limit_signup=None, limit_login_address=None, remember_device_days=30)
    make_schema(settings)
    spoiled = TamperingApp(create_app(settings, hash_cost=CHEAPEST, timeouts=PATIENT))
    with listening(spoiled) as spoiled.url:
        yield spoiled


def with_headers(request: ForwardedRequest, **values: str) -> ForwardedRequest:
    kept = (line for line in request.headers if line[0] not in values)
    return replace(request, headers=(*kept, *values.items()))


async def reads_it_without_the_header(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    return await forward(with_headers(request, **{"keyturn-session": "cookie"}))


async def reads_it_without_an_origin(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    has_one = any(name == "origin" for name, _ in request.headers)
    return await forward(request if has_one else with_headers(request, origin="http://localhost:8000"))


async def reads_it_for_every_origin(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    return await forward(with_headers(request, origin="http://localhost:8000"))


async def takes_one_of_two(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    cookies = [value.partition(";")[0] for name, value in request.headers if name == "cookie"]
    return await forward(with_headers(request, cookie=cookies[0]) if cookies else request)


async def leaves_the_token_in_the_body(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    without = tuple(line for line in request.headers if line[0] != "keyturn-session")
    return await forward(replace(request, headers=without) if request.path == "/login-2fa" else request)


async def lets_scripts_read_it(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    given = await forward(request)
    return replace(given, headers=tuple((name, value.replace("; HttpOnly", "")) for name, value in given.headers))


async def refuses_a_login_with_two(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    has_two = any(name == "cookie" and ";" in value for name, value in request.headers)
    return ForwardedResponse.of(422, {"code": "invalid_request"}) if has_two else await forward(request)


async def accepts_it_as_bearer(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    has_cookie = any(name == "cookie" for name, _ in request.headers)
    return ForwardedResponse.of(200, {"sub": "x"}) if request.path == "/me" and has_cookie else await forward(request)


async def test_the_service_holds(service: TamperingApp) -> None:
    """The attack finds nothing in the service as it is."""
    service.by = honest
    report = await run_attack(service.url, "refresh")
    assert ATTACK in names(report, "held"), report.text()


@pytest.mark.parametrize(
    "by",
    [
        reads_it_without_the_header, reads_it_without_an_origin, reads_it_for_every_origin, takes_one_of_two,
        leaves_the_token_in_the_body, lets_scripts_read_it, refuses_a_login_with_two, accepts_it_as_bearer,
    ],
)  # fmt: skip
async def test_an_unguarded_device_cookie_is_detected(service: TamperingApp, by: Tamper) -> None:
    """A page that may not use the cookie, a script, a second cookie, and the cookie as an access token."""
    service.by = by
    assert ATTACK in names(await run_attack(service.url, "refresh"), "broken")
