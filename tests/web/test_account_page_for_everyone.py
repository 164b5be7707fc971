"""Every view of the account page fits every screen and every reader: axe-core finds nothing, nothing overflows."""

from collections.abc import Sequence

import pytest

from tests.harness.account_page import Site, Someone
from tests.harness.chromium import Profile

pytestmark = pytest.mark.heavy

SCREENS = [(320, "light"), (320, "dark"), (1280, "light"), (1280, "dark")]
TWO_SCREENS = SCREENS[1:3]
"""For states that have the elements of other views: the small one dark, the large one light."""
LANGUAGES = ("en", "de", "fr", "es")

EXAMINE = """
const found = [];
const overflows = () => page.evaluate(() => {
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  return wide > 0 ? `wider by ${wide} px` : null;
});
for (const [width, colorScheme] of values.screens) {
  await page.setViewportSize({ width, height: 800 });
  await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
  for (const violation of await violations(page)) found.push(`${width} ${colorScheme} ${violation}`);
  found.push(await overflows());
}
await page.setViewportSize({ width: 320, height: 800 });
for (const language of values.languages) {
  await page.locator("footer select").selectOption(language, { force: true });
  await page.waitForFunction((tag) => document.documentElement.lang === tag, language);
  found.push(await overflows());
}
await page.evaluate(() => { document.documentElement.dir = "rtl"; });
found.push(await overflows());
await page.locator("footer select").selectOption("en", { force: true });
await page.waitForFunction(() => document.documentElement.lang === "en" && document.documentElement.dir === "ltr");
await page.setViewportSize({ width: 1280, height: 900 });
return found.filter(Boolean);
"""


def examine(at: Profile, view: str, screens: Sequence[tuple[int, str]] = SCREENS) -> None:
    """Check the present view on every screen, in every language and direction."""
    languages = LANGUAGES if not at.run("return page.locator('dialog').count()") else ()
    found = at.run(EXAMINE, screens=screens, languages=languages)
    assert [] == found, view
    assert [] == at.faults(), view


@pytest.mark.parametrize(
    "view",
    ["login", "signup", "forgot", "restore", "lost", "reset-password=ktl_x", "confirm-email=ktl_x",
     "cancel-email=ktl_x", "reset-password", "invitation=ktl_x"],
)  # fmt: skip
def test_the_views_of_visitors(site: Site, visitor: Profile, view: str) -> None:
    visitor.open(f"{site.page}#{view}")
    examine(visitor, view)


@pytest.fixture(scope="module")
def visitor(site: Site) -> Profile:
    return site.profile()


def test_refusals_and_the_second_step(site: Site) -> None:
    """A refused login, the code step with both kinds of codes, the QR code and the recovery codes."""
    uma = Someone.of(site, "uma")
    uma.at.open(f"{site.page}#login")
    uma.at.press("Log in")
    uma.at.see("Please fill in this field.")
    uma.at.fill(username="uma", password="wrong")
    uma.at.press("Log in")
    uma.at.see("The username or the password is not right.")
    examine(uma.at, "refused")
    uma.give_password()
    uma.at.heading("Enter your code")
    examine(uma.at, "code")
    uma.at.press("Use a recovery code")
    examine(uma.at, "recovery code")
    uma.at.close()
    val = Someone(site, site.profile(), "a-name-of-64-characters-that-has-no-place-to-break-it-anywhere-x")
    assert 64 == len(val.username)
    val.at.open(f"{site.page}#signup")
    val.at.fill(username=val.username, password=val.password)
    val.at.press("Create the account")
    val.scan()
    examine(val.at, "enrolment")
    val.at.fill(otp=val.code())
    val.at.heading("Recovery codes")
    examine(val.at, "recovery codes")
    val.at.close()


def test_the_views_of_the_account(site: Site) -> None:
    """Also with another session in the list, a long name, and each dialog."""
    wes = Someone.of(site, "wes-with-a-long-name.at.a-long-host.example.com")
    wes.log_in()
    other = site.profile(userAgent="x" * 300)
    wes.log_in(other)
    other.close()

    for view, shown, dialogs in (
        ("overview", "E-mail address", ["Add an address"]),
        ("security", "All other sessions end", ["Add an authenticator", "Rename", "Make new codes", "Turn it off"]),
        ("sessions", "This one", ["End all sessions"]),
        ("activity", "Account created", []),
        ("data", "Export", ["Delete the account…"]),
    ):
        wes.at.open(f"{site.page}#{view}")
        wes.at.see(shown)
        examine(wes.at, view)
        for button in dialogs:
            wes.at.press(button)
            wes.at.run("await page.locator('dialog').waitFor()")
            examine(wes.at, button)
            wes.at.press("Cancel")
    wes.at.close()


def test_the_results_of_visitors(site: Site, visitor: Profile) -> None:
    """What follows the forms without a session. The service answers to any name, and here to any link."""
    visitor.run("await page.route('**/email/*', (route) => route.fulfill({ status: 204 }))")
    for view, fields, button, result in (
        ("forgot", {"username": "xena"}, "Send the link", "Look into your mailbox"),
        ("lost", {"username": "xena", "password": "wrong"}, "Request it", "Now wait"),
        ("confirm-email=ktl_x", {}, "Confirm the address", "The address is confirmed"),
        ("cancel-email=ktl_x", {}, "Refuse the new address", "The new address is refused"),
    ):
        visitor.open(f"{site.page}#{view}")
        visitor.fill(**fields)
        visitor.press(button)
        visitor.heading(result)
        examine(visitor, result, TWO_SCREENS)


def test_an_account_without_a_second_factor(site: Site) -> None:
    """Overview and security, a fresh proof by the password, the enrolment, and the end of the account."""
    xia = Someone.of(site, "xia", second_factor=False)
    xia.log_in()
    xia.at.see("Your account has no second factor yet")
    examine(xia.at, "overview", TWO_SCREENS)
    site.clock.advance(seconds=1000)
    xia.at.follow("Your data")
    xia.at.press("Download")
    xia.at.see("Enter your password to go on.")
    examine(xia.at, "fresh proof by the password", TWO_SCREENS)
    xia.at.fill(password=xia.password)
    xia.at.run(
        "await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Go on' }).click()])"
    )
    xia.at.follow("Security")
    xia.at.see("All other sessions end")
    examine(xia.at, "security", TWO_SCREENS)
    xia.at.press("Set up a second factor")
    xia.at.fill(password="wrong")
    xia.at.press("Next")
    xia.at.see("The password is not right.")
    examine(xia.at, "refused in a dialog", TWO_SCREENS)
    xia.at.fill(password=xia.password)
    xia.at.press("Next")
    xia.at.run("await page.locator('dialog canvas').waitFor()")
    examine(xia.at, "enrolment", TWO_SCREENS)
    xia.at.press("Cancel")
    xia.at.follow("Your data")
    xia.at.press("Delete the account…")
    xia.at.fill(password=xia.password)
    xia.at.press("Delete the account")
    xia.at.heading("Your account is deleted")
    examine(xia.at, "deleted", TWO_SCREENS)
    xia.at.close()


NOTICES = """
await page.route("**/me", async (route) => {
  const answer = await route.fetch();
  const json = { ...await answer.json(), ...values };
  await route.fulfill({ response: answer, json });
});
"""


def test_the_notices_and_dialogs_of_an_account(site: Site) -> None:
    """All notices of the overview at once, a refusal without a form, and each dialog that another act opens."""
    yul = Someone.of(site, "yul")
    yul.log_in()
    other = site.profile(userAgent="x" * 300)
    yul.log_in(other)
    other.close()
    address = f"{'a' * 64}@{'b' * 50}.example"
    yul.at.run(NOTICES, recovery_due_at=1_800_000_000, recovery_codes_left=2, email=address, new_email=address)
    yul.at.run("await page.route('**/recovery', (route) => route.abort(), { times: 1 })")
    yul.at.open(f"{site.page}#overview")
    yul.at.press("Cancel it")
    yul.at.see("The service did not answer.")
    assert ["net::ERR_FAILED"] == [fault.rpartition(" ")[2] for fault in yul.at.faults()]
    examine(yul.at, "notices", TWO_SCREENS)
    yul.at.follow("Sessions")
    yul.at.run("await page.getByRole('button', { name: 'End', exact: true }).first().click()")
    yul.at.run("await page.locator('dialog').waitFor()")
    examine(yul.at, "End", TWO_SCREENS)
    yul.at.press("Cancel")
    site.clock.advance(seconds=1000)
    yul.at.follow("Security")
    yul.at.press("Add an authenticator")
    yul.at.fill(name="tablet", password=yul.password)
    yul.at.press("Next")
    yul.at.see("Enter a code to go on.")
    examine(yul.at, "fresh proof by a code", TWO_SCREENS)
    yul.at.run("await page.locator('dialog input[name=otp]').fill(values.code)", code=yul.code())
    yul.at.run("await page.locator('dialog canvas').waitFor()")
    yul.at.press("Cancel")
    yul.at.open(f"{site.page}#security")
    yul.at.see("Not confirmed")
    yul.at.press("Remove")
    examine(yul.at, "Remove", TWO_SCREENS)
    yul.at.close()


def test_the_examination_finds_what_is_wrong(site: Site, visitor: Profile) -> None:
    """A picture without a text, and an element that is wider than the screen."""
    visitor.open(site.page)
    visitor.run(
        """
        await page.evaluate(() => {
          const picture = document.createElement("img");
          document.querySelector("main").append(picture);
          document.querySelector("main").append(Object.assign(document.createElement("canvas"), { width: 2000 }));
          picture.src = "icon.svg";
        });
        """
    )
    found = " ".join(visitor.run(EXAMINE, screens=SCREENS[:1], languages=()))
    assert "image-alt" in found
    assert "wider by" in found
    visitor.faults()
