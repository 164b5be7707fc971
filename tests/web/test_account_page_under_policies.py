"""The account page in Chromium where an operator invites users, and demands a second factor of everyone."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.harness.account_page import Site, Someone, serving
from tests.harness.chromium import Browser
from tests.harness.databases import PATIENT_SECONDS

pytestmark = pytest.mark.heavy

PRINTED = """
await page.emulateMedia({ media: "print" });
const found = await page.evaluate(() => {
  const texts = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.data.trim();
    const { width, height } = walk.currentNode.parentElement.getBoundingClientRect();
    if (text && width > 1 && height > 1) texts.push(text);
  }
  return texts;
});
await page.emulateMedia({ media: null });
return found;
"""
"""The texts that the paper has. An element that screen readers alone read is 1 px wide."""
EXPLANATION = (
    "Each of these codes logs you in once if your authenticator is lost. Keep them in a safe place: they are not "
    "shown again."
)


@pytest.fixture(scope="module")
def site(chromium_browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("policies")
    with serving(chromium_browser, folder, signup="invited", require_mfa="everyone", recovery_delay="72h") as opened:
        yield opened


def invited_user(site: Site, username: str) -> Someone:
    """Return a user with an account that has no second factor yet."""
    details = {"username": username, "password": Someone.password, "invitation": site.invite()}
    httpx2.post(f"{site.url}/signup", json=details, timeout=PATIENT_SECONDS).raise_for_status()
    return Someone(site, site.profile(), username)


def enrol(user: Someone) -> None:
    """Scan the QR code on the screen, give the first code, and keep the recovery codes."""
    user.at.heading("Set up your authenticator")
    user.scan()
    user.at.fill(otp=user.code())
    user.at.heading("Recovery codes")
    user.at.run("await page.locator('input[name=saved]').check()")
    user.at.press("Continue")
    user.at.heading(f"Hello, {user.username}")
    user.site.clock.next_step()


def test_a_user_signs_up_with_the_link_of_an_invitation(site: Site) -> None:
    """The message has the link, which works once. The address counts as confirmed: the user logs in with it."""
    site.invite("ann@example.com")
    link = site.find_link("ann@example.com", "invitation")
    ann = Someone(site, site.profile(), "ann")
    ann.at.open(link)
    assert f"{site.page}#invitation" == ann.at.url(), "the token is not in the URL any more"
    ann.at.heading("Create an account")
    ann.at.see("You are invited to Keyturn.")
    assert 0 == ann.at.run("return page.locator('input[name=enable_mfa]').count()"), "everyone has a second factor"
    ann.at.fill(username="ann", email="eve@example.com", password=ann.password)
    ann.at.press("Create the account")
    ann.at.see("This invitation was used, has expired, or is for another address.")
    ann.at.fill(email="ann@example.com")
    ann.at.press("Create the account")
    enrol(ann)
    ann.at.see("ann@example.com")
    ann.at.press("Log out")
    ann.at.heading("Log in")
    ann.at.fill(username="ann@example.com", password=ann.password)
    ann.at.press("Log in")
    ann.at.heading("Enter your code")
    ann.at.fill(otp=ann.code())
    ann.at.heading("Hello, ann")
    guest = site.profile()
    guest.open(link)
    guest.fill(username="bea", email="ann@example.com", password=ann.password)
    guest.press("Create the account")
    guest.see("This invitation was used, has expired, or is for another address.")
    assert [] == ann.at.faults() + guest.faults()
    guest.close()
    ann.at.close()


def test_a_login_must_enrol_a_second_factor(site: Site) -> None:
    """There is no way around it: without a code no view of the account is shown, and a later login asks again."""
    cat = invited_user(site, "cat")
    cat.at.open(f"{site.page}#security")
    for _ in range(2):
        cat.at.heading("Log in")
        cat.give_password()
        cat.at.heading("Set up your authenticator")
        cat.at.run("await page.locator('canvas').waitFor()")
        cat.at.open(f"{site.page}#overview")
    cat.at.heading("Log in")
    cat.give_password()
    enrol(cat)
    cat.at.follow("Security")
    cat.at.see("Unused codes: 10")
    assert 0 == cat.at.run("return page.getByRole('button', { name: 'Turn it off' }).count()")
    cat.at.press("Log out")
    cat.at.heading("Log in")
    cat.log_in()
    assert [] == cat.at.faults()
    cat.at.close()


def test_a_recovery_that_is_due(site: Site) -> None:
    """Before the delay is over the login asks for a code as ever; after it the user sets up another authenticator."""
    dan = invited_user(site, "dan")
    dan.at.open(site.page)
    dan.give_password()
    enrol(dan)
    lost = dan.secret
    phone = site.profile()
    phone.open(site.page)
    dan.give_password(phone)
    phone.heading("Enter your code")
    phone.follow("I lost my authenticator and my recovery codes")
    phone.see("wait for 3 days")
    assert "dan" == phone.run("return page.locator('input[name=username]').inputValue()")
    phone.fill(password=dan.password)
    phone.press("Request it")
    phone.heading("Now wait")
    phone.see("log in after 3 days to set up a new authenticator.")
    phone.follow("Back to the login")
    site.clock.advance(days=2.9)
    dan.give_password(phone)
    phone.heading("Enter your code")
    phone.run("await page.goBack()")
    site.clock.advance(days=0.2)
    phone.heading("Log in")
    dan.give_password(phone)
    old = dan.at
    dan.at = phone
    enrol(dan)
    assert lost != dan.secret
    phone.follow("Security")
    phone.see("Unused codes: 10")
    assert 1 == phone.run("return page.locator('.items li').count()")
    phone.follow("Activity")
    phone.see("Second factor removed after the delay")
    phone.follow("Sessions")
    phone.see("This one")
    assert 1 == phone.run("return page.locator('.items li').count()"), "the recovery ended the other session"
    old.open(f"{site.page}#security")
    old.heading("Log in")
    phone.press("Log out")
    phone.heading("Log in")
    dan.log_in()
    assert [] == old.faults() + phone.faults()
    old.close()
    phone.close()


def test_recovery_codes_are_printed(site: Site) -> None:
    """The button prints. The paper has the codes and their explanation, also that of codes that replace others."""
    eli = invited_user(site, "eli")
    eli.at.run(
        """
        kept.printed = 0;
        await page.exposeFunction("print", () => { kept.printed += 1; });
        """
    )
    eli.at.open(site.page)
    eli.give_password()
    eli.at.heading("Set up your authenticator")
    eli.scan()
    eli.at.fill(otp=eli.code())
    eli.at.heading("Recovery codes")
    for printed in (1, 2):
        codes = eli.at.run("return page.locator('.codes li').allInnerTexts()")
        assert 10 == len(codes)
        eli.at.press("Print")
        eli.at.run(
            "for (let n = 0; n < 500 && kept.printed < values.printed; n += 1) await page.waitForTimeout(10);",
            printed=printed,
        )
        assert printed == eli.at.run("return kept.printed")
        assert ["Recovery codes", EXPLANATION, *codes] == eli.at.run(PRINTED)
        eli.at.run("await page.locator('input[name=saved]').check()")
        eli.at.press("Continue")
        if printed == 1:
            eli.at.heading("Hello, eli")
            eli.at.follow("Security")
            eli.at.press("Make new codes")
            eli.at.run("await page.locator('dialog').getByRole('button', { name: 'Make new codes' }).click()")
            eli.at.heading("Recovery codes")
    eli.at.heading("Security")
    assert "The old recovery codes do not work any more." in eli.at.text("main")
    assert [] == eli.at.faults()
    eli.at.close()
