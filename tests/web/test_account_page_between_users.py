"""The account page in Chromium when one user follows another in the same tab or in the same browser."""

from tests.harness.account_page import Site, Someone


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
