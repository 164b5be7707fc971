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


APPLICATION = """
await page.evaluate(async (credentials) => {
  const post = async (path, body, headers = {}) => (await fetch(path, {
    method: "POST", body, headers: { "keyturn-session": "cookie", ...headers },
  })).text();
  const { access_token: token } = JSON.parse(await post("/token", new URLSearchParams("grant_type=refresh_token")));
  await post("/logout", undefined, { authorization: `Bearer ${token}` });
  if (!credentials) return;
  await post("/login", JSON.stringify(credentials), { "content-type": "application/json" });
}, values.credentials);
"""
"""What an application of another origin does, which shares the cookie with the page and no channel between tabs: a
logout, and a login if there are credentials."""


def test_the_page_follows_another_user_of_the_browser(site: Site) -> None:
    """An application has logged in somebody else. The page shows nothing more of the user before."""
    lou = Someone.of(site, "lou", second_factor=False)
    ned = Someone.of(site, "ned", second_factor=False)
    lou.log_in()
    lou.at.follow("Your data")
    lou.at.run(APPLICATION, credentials={"username": ned.username, "password": ned.password})
    lou.at.press("Delete the account…")
    lou.at.fill(password=lou.password + "x")
    lou.at.press("Delete the account")
    lou.at.run("await page.locator('header').getByText('ned').waitFor()")
    assert 0 == lou.at.run("return page.locator('dialog').count()")
    assert "lou" not in lou.at.text()
    lou.at.faults()  # the refused password
    lou.at.close()


def test_a_dialog_ends_with_its_session(site: Site) -> None:
    """Another tab logs out. The dialog does not stay before the next user."""
    pia = Someone.of(site, "pia", second_factor=False)
    pia.log_in()
    pia.at.follow("Your data")
    pia.at.press("Delete the account…")
    pia.at.see("Delete the account")
    pia.at.run("globalThis.tab = await context.newPage(); await tab.goto(values.url)", url=f"{site.page}#security")
    pia.at.run("await globalThis.tab.getByRole('button', { name: 'Log out' }).click()")
    pia.at.run("await page.getByText('Your session has ended.').first().waitFor({ state: 'attached' })")
    assert 0 == pia.at.run("return page.locator('dialog').count()")
    pia.at.heading("Log in")
    assert [] == pia.at.faults()
    pia.at.close()


def test_only_a_username_that_logs_in_is_remembered(site: Site) -> None:
    """Users type their password into the wrong field. The next user of the browser must not find it there."""
    sol = Someone.of(site, "sol", second_factor=False)
    read = "return page.evaluate(() => [localStorage, sessionStorage].flatMap(Object.values))"
    sol.at.open(f"{site.page}#login")
    sol.at.fill(username="only-sol-knows-this", password=sol.password)
    sol.at.press("Log in")
    sol.at.see("The username or the password is not right.")
    assert [] == sol.at.run(read)
    sol.give_password()
    sol.at.heading("Hello, sol")
    assert ["sol"] == sol.at.run(read)
    sol.at.faults()  # the refused login
    sol.at.close()


def test_the_back_button_shows_no_account_after_a_logout(site: Site) -> None:
    """The browser may show a page again as it was (HTML section 7.4.6). The event is that of such a page."""
    tom = Someone.of(site, "tom", second_factor=False)
    tom.log_in()
    tom.at.run(APPLICATION)
    tom.at.run(
        "await page.evaluate(() => { dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true })); })"
    )
    tom.at.heading("Log in")
    assert "Hello, tom" not in tom.at.text()
    tom.at.faults()  # the refused refresh
    tom.at.close()


def test_a_reset_of_the_own_password_leads_to_the_login(site: Site) -> None:
    """The user is logged in here. The reset ends this session, too, and the login says why."""
    oda = Someone(site, site.profile(), "oda")
    oda.sign_up(email="oda@example.com", second_factor=False)
    oda.at.open(site.find_link("oda@example.com", "confirm-email"))
    oda.at.press("Confirm the address")
    oda.at.heading("The address is confirmed")
    oda.at.run("await page.request.post(values.url, { data: { username: 'oda' } })", url=f"{site.url}/password-reset")
    oda.at.open(site.find_link("oda@example.com", "reset-password"))
    oda.at.fill(password="another long password of oda")
    oda.at.press("Set the password")
    oda.at.heading("Log in")
    assert "Your password is set. Log in with it." in oda.at.text("main")
    oda.at.faults()  # the refused refresh
    oda.at.close()
