"""The account page in Chromium when the service refuses something: it says so, waits, and works afterwards."""

from typing import Any

import httpx2
import pytest

from tests.harness.account_page import Site, Someone
from tests.harness.chromium import Profile
from tests.harness.databases import PATIENT_SECONDS

pytestmark = pytest.mark.heavy


def refuse_once(at: Profile, path: str, status: int) -> None:
    """Answer the next request to `path` with this status, and with a wait of two seconds."""
    at.run(
        """
        await page.route(values.path, (route) => route.fulfill({
          status: values.status, headers: { "retry-after": "2" }, contentType: "application/problem+json",
          body: JSON.stringify({ code: "busy", title: "busy", status: values.status }),
        }), { times: 1 });
        """,
        path=path,
        status=status,
    )


def wait_for(at: Profile, name: str) -> None:
    """Assert that the button waits with the countdown, then press it when the wait is over."""
    at.see("Many people log in at this moment.")
    at.see("You can try again in ")
    button: dict[str, Any] = {"name": name}
    state = "return page.getByRole('button', { name: values.name, exact: true }).getAttribute('aria-disabled')"
    assert "true" == at.run(state, **button)
    at.run("await page.getByRole('button', values).click({ force: true })", **button)
    assert 1 == at.run("return page.locator('[role=alert]').count()"), "nothing was sent"
    at.run("await page.locator('[role=timer]').getByText('You can try again now.').waitFor()")
    assert at.run(state, **button) is None
    at.press(name)


def test_what_has_no_form_shows_its_refusal(site: Site) -> None:
    """A recovery that is cancelled, the language, and the logout: each one can be tried again."""
    abe = Someone.of(site, "abe")
    abe.log_in()
    recovery = {"username": "abe", "password": abe.password}
    httpx2.post(f"{site.url}/recovery", json=recovery, timeout=PATIENT_SECONDS).raise_for_status()
    abe.at.open(f"{site.page}#overview")
    abe.at.see("A new second factor was requested")

    abe.at.run("await page.route('**/recovery', (route) => route.abort(), { times: 1 })")
    abe.at.press("Cancel it")
    abe.at.see("The service did not answer.")
    refuse_once(abe.at, "**/recovery", 503)
    abe.at.press("Cancel it")
    wait_for(abe.at, "Cancel it")
    abe.at.see("The request is cancelled.")
    assert 0 == abe.at.run("return page.locator('[role=alert]').count()")

    abe.at.run("await page.route('**/i18n/de.json', (route) => route.abort(), { times: 1 })")
    abe.at.run("await page.locator('footer select').selectOption('de')")
    abe.at.see("The language could not be changed.")
    assert "en" == abe.at.run("return page.locator('footer select').inputValue()")
    abe.at.run("await page.locator('footer select').selectOption('de')")
    abe.at.heading("Guten Tag, abe")
    assert 0 == abe.at.run("return page.locator('[role=alert]').count()")
    abe.at.run("await page.locator('footer select').selectOption('en')")
    abe.at.heading("Hello, abe")

    refuse_once(abe.at, "**/logout", 429)
    abe.at.press("Log out")
    wait_for(abe.at, "Log out")
    abe.at.heading("Log in")
    assert [] == [fault for fault in abe.at.faults() if "net::ERR_FAILED" not in fault]
    abe.at.close()


def test_views_and_the_start_wait(site: Site) -> None:
    """A view that loads, and the session at the start: the user goes on where they wanted."""
    ben = Someone.of(site, "ben", second_factor=False)
    ben.log_in()
    refuse_once(ben.at, "**/sessions", 503)
    ben.at.follow("Sessions")
    wait_for(ben.at, "Try again")
    ben.at.see("This one")
    refuse_once(ben.at, "**/token", 429)
    ben.at.open(f"{site.page}#activity")
    ben.at.heading("Log in")
    wait_for(ben.at, "Try again")
    ben.at.heading("Activity")
    ben.at.see("Account created")
    assert 0 == ben.at.run("return page.locator('[role=alert]').count()")
    assert [] == ben.at.faults()
    ben.at.close()


def test_a_start_without_a_session_keeps_what_was_typed(site: Site) -> None:
    """The second attempt finds no session: the login stays as it is."""
    at = site.profile()
    refuse_once(at, "**/token", 429)
    at.open(f"{site.page}#login")
    at.fill(username="cat")
    wait_for(at, "Try again")
    at.run("await page.locator('[role=alert]').waitFor({ state: 'detached' })")
    assert "cat" == at.run("return page.locator('input[name=username]').inputValue()")
    assert [] == at.faults()
    at.close()


def test_a_corrected_clock_is_not_called_wrong(site: Site) -> None:
    """The sentence says that it differs from what was remembered, in each language; the next code logs in."""
    mel = Someone.of(site, "mel")
    mel.at.open(f"{site.page}#login")
    mel.give_password()
    mel.at.heading("Enter your code")
    site.clock.advance(seconds=200)
    mel.at.fill(otp=mel.code(-6))
    mel.at.see("The clock of your phone is behind by 3 minutes.")
    site.clock.next_step()
    mel.at.fill(otp=mel.code(-6))
    mel.at.press("Log in")
    mel.at.heading("Hello, mel")
    site.clock.next_step()
    mel.at.press("Log out")
    mel.at.heading("Log in")
    mel.at.fill(password=mel.password)
    mel.at.press("Log in")
    mel.at.heading("Enter your code")
    mel.at.fill(otp=mel.code())
    mel.at.see("The clock of your phone differs from what was remembered about it.")
    assert "is ahead" not in mel.at.text("main")
    assert "is behind" not in mel.at.text("main")
    for language, sentence in (
        ("de", "Die Uhr Ihres Telefons weicht von dem ab, was über sie gemerkt wurde."),
        ("fr", "horloge de votre téléphone diffère de ce qui a été mémorisé."),
        ("es", "El reloj de su teléfono no coincide con lo que se había guardado."),
        ("en", "The clock of your phone differs from what was remembered about it."),
    ):
        mel.at.run("await page.locator('select').selectOption(values.language)", language=language)
        mel.at.see(sentence)
    site.clock.next_step()
    mel.at.fill(otp=mel.code())
    mel.at.press("Log in")
    mel.at.heading("Hello, mel")
    assert [] == [fault for fault in mel.at.faults() if "401" not in fault]
    mel.at.close()
