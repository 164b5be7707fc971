"""A known device on the account page in Chromium: its device token is in a cookie, and nowhere else."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.account_page import Site, Someone, serving
from tests.harness.browsers import COOKIE, DEVICE_COOKIE
from tests.harness.chromium import Browser, Profile

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def site(chromium_browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A service whose operator lets known devices replace the code for thirty days."""
    folder, settings = tmp_path_factory.mktemp("site"), {"remember_device_days": 30, "limit_signup": "off"}
    with serving(chromium_browser, folder, **settings) as opened:  # type: ignore[arg-type]
        yield opened


def stored(at: Profile) -> Any:
    """Return all that a script of the page can read of what the browser keeps."""
    return at.run(
        "return page.evaluate(() => "
        "[...[localStorage, sessionStorage].flatMap((one) => Object.entries(one).flat()), document.cookie].join(' '))"
    )


def cookies(at: Profile) -> dict[str, str]:
    found: list[dict[str, Any]] = at.run("return context.cookies()")
    assert all(one["httpOnly"] and one["secure"] and one["sameSite"] == "Strict" for one in found)
    return {one["name"]: one["value"] for one in found}


def log_in_remembered(someone: Someone) -> None:
    at = someone.at
    at.open(f"{someone.site.page}#login")
    at.run("await page.locator('input[name=remember]').check()")
    someone.give_password()
    at.heading("Enter your code")
    at.fill(otp=someone.code())
    at.heading(f"Hello, {someone.username}")
    someone.site.clock.next_step()


def log_out(at: Profile) -> None:
    at.press("Log out")
    at.heading("Log in")


def test_a_remembered_device_skips_the_second_factor(site: Site) -> None:
    """After a logout the password suffices here, and nowhere else. No script can read what the browser keeps."""
    ada = Someone.of(site, "ada")
    log_in_remembered(ada)
    assert {COOKIE, DEVICE_COOKIE} == set(cookies(ada.at))
    log_out(ada.at)
    assert {DEVICE_COOKIE} == set(cookies(ada.at))
    device = cookies(ada.at)[DEVICE_COOKIE]
    for _ in range(2):
        ada.at.open(f"{site.page}#login")
        ada.give_password()
        ada.at.heading("Hello, ada")
        held = cookies(ada.at)
        assert device == held[DEVICE_COOKIE]
        readable = stored(ada.at)
        assert not any(secret in readable for secret in (*held.values(), "ktd_", "ktr_", "eyJ")), readable
        assert "keyturn.device" not in readable
        log_out(ada.at)
    other = site.profile()
    other.open(f"{site.page}#login")
    ada.give_password(other)
    other.heading("Enter your code")
    assert [] == ada.at.faults() + other.faults()
    other.close()
    ada.at.close()


def test_a_device_that_is_not_remembered_has_no_cookie(site: Site) -> None:
    """The user did not check the box: the next login asks for the code."""
    ben = Someone.of(site, "ben")
    ben.log_in()
    assert {COOKIE} == set(cookies(ben.at))
    log_out(ben.at)
    ben.log_in()
    assert [] == ben.at.faults()
    ben.at.close()


def test_the_end_of_all_sessions_forgets_the_device(site: Site) -> None:
    """The code is asked for again, also in this browser."""
    cleo = Someone.of(site, "cleo")
    log_in_remembered(cleo)
    cleo.at.follow("Sessions")
    cleo.at.press("End all sessions")
    cleo.at.run("await page.locator('dialog').getByRole('button', { name: 'End all sessions' }).click()")
    cleo.at.see("All sessions have ended.")
    cleo.log_in()
    assert [] == cleo.at.faults()
    cleo.at.close()


def test_a_device_token_of_an_earlier_version_is_removed(site: Site) -> None:
    """That version kept it where every script of the page can read it. It is removed, and not used."""
    dora = Someone.of(site, "dora")
    dora.at.open(f"{site.page}#login")
    dora.at.run("await page.evaluate(() => localStorage.setItem('keyturn.device', 'ktd_of_an_earlier_version'))")
    dora.at.run("await page.reload()")
    dora.at.heading("Log in")
    assert "ktd_" not in stored(dora.at)
    dora.at.run("kept.sent = []; page.on('request', (request) => kept.sent.push(request.postData()))")
    dora.log_in()
    assert "device_token" not in str(dora.at.run("return kept.sent"))
    assert [] == dora.at.faults()
    dora.at.close()
