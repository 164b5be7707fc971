"""Every view of the account page fits every screen and every reader: axe-core finds nothing, nothing overflows."""

import pytest

from tests.harness.account_page import Site, Someone
from tests.harness.chromium import Profile

pytestmark = pytest.mark.heavy

SCREENS = [(320, "light"), (320, "dark"), (1280, "light"), (1280, "dark")]
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
  await page.locator("select").selectOption(language, { force: true });
  await page.waitForFunction((tag) => document.documentElement.lang === tag, language);
  found.push(await overflows());
}
await page.evaluate(() => { document.documentElement.dir = "rtl"; });
found.push(await overflows());
await page.locator("select").selectOption("en", { force: true });
await page.waitForFunction(() => document.documentElement.lang === "en" && document.documentElement.dir === "ltr");
await page.setViewportSize({ width: 1280, height: 900 });
return found.filter(Boolean);
"""


def examine(at: Profile, view: str) -> None:
    """Check the present view on every screen, in every language and direction."""
    languages = LANGUAGES if not at.run("return page.locator('dialog').count()") else ()
    found = at.run(EXAMINE, screens=SCREENS, languages=languages)
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
        ("security", "All other sessions end", ["Add an authenticator", "Make new codes", "Turn it off"]),
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
