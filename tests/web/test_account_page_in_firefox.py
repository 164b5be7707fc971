"""The account page in Debian's Firefox, headless: the main story of a user, and nothing that Firefox reports."""

from collections.abc import Iterator

import pytest

from tests.harness.account_page import Site, Someone, serving
from tests.harness.browsers import COOKIE
from tests.harness.chromium import firefox

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with (
        firefox(tmp_path_factory.mktemp("firefox")) as browser,
        serving(browser, tmp_path_factory.mktemp("site")) as opened,
    ):
        yield opened


def test_a_session_that_two_tabs_share(site: Site) -> None:
    """Firefox keeps the cookie on loopback without TLS. A second tab has the session; a logout ends it in both."""
    fay = Someone(site, site.profile(), "fay")
    assert 10 == len(fay.sign_up())
    fay.at.press("Log out")
    fay.at.heading("Log in")
    fay.log_in()
    assert [[COOKIE, True, True, "Strict"]] == fay.at.run(
        """
        return (await context.cookies()).map(({ name, secure, httpOnly, sameSite }) =>
          [name, secure, httpOnly, sameSite]);
        """
    )
    fay.at.run(
        """
        const tab = await context.newPage();
        await tab.goto(values.url);
        await tab.getByRole("heading", { name: "Security" }).waitFor();
        await tab.getByRole("button", { name: "Log out" }).click();
        await tab.getByRole("heading", { name: "Log in", level: 1 }).waitFor();
        """,
        url=f"{site.page}#security",
    )
    fay.at.heading("Log in")
    assert [] == fay.at.run("return context.cookies()")
    assert [] == fay.at.faults()
    fay.at.close()


def test_no_view_has_an_error_of_a_script_or_breaks_the_policy(site: Site) -> None:
    """The views of visitors and of the account, a refused login, and another language."""
    gus = Someone.of(site, "gus", second_factor=False)
    gus.at.open(f"{site.page}#login")
    gus.at.fill(username="gus", password="wrong")
    gus.at.press("Log in")
    gus.at.see("The username or the password is not right.")
    gus.give_password()
    gus.at.heading("Hello, gus")
    for section in ("Security", "Sessions", "Activity", "Your data"):
        gus.at.follow(section)
        gus.at.heading(section)
    gus.at.see("Download")
    gus.at.run("await page.locator('footer select').selectOption('de')")
    gus.at.heading("Ihre Daten")
    gus.at.press("Abmelden")
    gus.at.heading("Anmelden")
    assert [] == gus.at.faults()
    gus.at.run("await page.evaluate(() => { document.querySelector('main').setAttribute('style', 'color: red'); })")
    gus.at.run("await page.waitForFunction(() => true)")
    assert [fault for fault in gus.at.faults() if "style-src-attr" in fault], "faults are found in Firefox, too"
    gus.at.close()
