"""The account page in Chromium: what users do there, by clicking and typing."""

from collections.abc import Iterator

import pytest

from tests.harness.account_page import Site, Someone, serving
from tests.harness.chromium import Browser, chromium

ORIGIN = "https://app.example.com"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(browser, tmp_path_factory.mktemp("site"), cors_origins=(ORIGIN,)) as opened:
        yield opened


def test_the_whole_story(site: Site) -> None:
    """Sign up, scan the QR code, save the codes, log out and in, end another session, reset the password by mail."""
    ada = Someone(site, site.profile(), "ada")
    codes = ada.sign_up(email="ada@example.com")
    assert 10 == len(codes)
    ada.at.open(site.find_mail(r"http://localhost:\d+/account#confirm-email=\S+"))
    assert f"{site.page}#confirm-email" == ada.at.url()
    ada.at.press("Confirm the address")
    ada.at.heading("The address is confirmed")
    ada.at.press("Log out")
    ada.at.heading("Log in")
    ada.log_in()
    other = site.profile(userAgent="Mozilla/5.0 (Windows NT 10.0; rv:140.0) Gecko/20100101 Firefox/140.0")
    ada.log_in(other)
    ada.at.follow("Sessions")
    ada.at.see("Firefox, Windows")
    ada.at.see("This one")
    ada.at.press("End")
    ada.at.run("await page.locator('dialog').getByRole('button', { name: 'End', exact: true }).click()")
    ada.at.see("The session has ended.")
    other.follow("Security")
    other.heading("Log in")
    other.see("Your session has ended. Log in again.")
    other.follow("Forgot your password?")
    other.fill(username="ada@example.com")
    other.press("Send the link")
    other.heading("Look into your mailbox")
    other.open(site.find_mail(r"http://localhost:\d+/account#reset-password=\S+"))
    assert f"{site.page}#reset-password" == other.url(), "the token is not in the URL any more"
    ada.password = "another long password of ada"
    other.fill(password=ada.password)
    other.press("Set the password")
    other.see("Your password is set. Log in with it.")
    ada.give_password(other)
    other.heading("Enter your code")
    other.press("Use a recovery code")
    other.fill(recovery_code=codes[0].lower().replace("-", " "))
    other.press("Log in")
    other.see("Recovery codes that are left: 9.")
    assert [] == ada.at.faults() + other.faults()
    other.close()
    ada.at.close()
