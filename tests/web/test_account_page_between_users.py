"""The account page in Chromium when one user follows another in the same tab or in the same browser."""

import pytest

from tests.harness.account_page import Site, Someone

pytestmark = pytest.mark.heavy


def test_codes_that_were_not_saved_are_not_shown_to_the_next_user(site: Site) -> None:
    """A user logs out while the page shows their recovery codes. The tab keeps none of them."""
    kim = Someone(site, site.profile(), "kim")
    kim.at.open(f"{site.page}#signup")
    kim.at.fill(username="kim", password=kim.password)
    kim.at.press("Create the account")
    kim.at.heading("Set up your authenticator")
    kim.scan()
    kim.at.fill(otp=kim.code())
    kim.at.heading("Recovery codes")
    kim.at.press("Log out")
    kim.at.heading("Log in")
    lee = Someone.of(site, "lee", second_factor=False)
    lee.give_password(kim.at)
    kim.at.heading("Hello, lee")
    kim.at.run("await page.evaluate(() => { location.hash = 'recovery-codes'; })")
    kim.at.run("await page.waitForFunction(() => location.hash !== '#recovery-codes')")
    kim.at.heading("Hello, lee")
    assert [] == kim.at.faults()
    kim.at.close()


def test_a_username_is_kept_for_the_next_visit_only_if_the_user_wants_that(site: Site) -> None:
    """Others may use the same browser. In the same tab the way back has it."""
    mia = Someone.of(site, "mia", second_factor=False)
    username = "return page.locator('input[name=username]').inputValue()"
    for remembers, kept in ((False, ""), (True, "mia")):
        mia.at.open(f"{site.page}#login")
        if remembers:
            mia.at.run("await page.locator('input[name=remember]').check()")
        mia.give_password()
        mia.at.heading("Hello, mia")
        mia.at.press("Log out")
        mia.at.heading("Log in")
        assert "mia" == mia.at.run(username)
        mia.at.run(
            """
            const other = await context.newPage();
            await other.goto(values.url);
            await other.waitForSelector("h1");
            const shown = await other.locator("input[name=username]").inputValue();
            if (shown !== values.kept) throw new Error(`the username is "${shown}"`);
            await other.close();
            """,
            url=site.page,
            kept=kept,
        )
    assert [] == mia.at.faults()
    mia.at.close()
