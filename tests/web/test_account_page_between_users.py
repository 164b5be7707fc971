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
    pia.at.run("kept.tab = await context.newPage(); await kept.tab.goto(values.url)", url=f"{site.page}#security")
    pia.at.run("await kept.tab.getByRole('button', { name: 'Log out' }).click()")
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


def test_a_request_of_one_user_is_not_repeated_as_another(site: Site) -> None:
    """An application has logged in somebody else, with the same password: their account is not deleted."""
    ulf = Someone.of(site, "ulf", second_factor=False)
    val = Someone.of(site, "val", second_factor=False)
    ulf.log_in()
    ulf.at.follow("Your data")
    ulf.at.run(APPLICATION, credentials={"username": val.username, "password": val.password})
    ulf.at.run(
        "kept.sent = []; page.on('request', (request) => kept.sent.push(request.method()))",
    )
    ulf.at.press("Delete the account…")
    ulf.at.fill(password=ulf.password)
    ulf.at.press("Delete the account")
    ulf.at.see("Another user is logged in in this browser now.")
    ulf.at.heading("Your data")
    assert 1 == ulf.at.run("return kept.sent.filter((method) => method === 'DELETE').length")
    ulf.at.follow("Overview")
    ulf.at.heading("Hello, val")
    assert "Another user" not in ulf.at.text()
    ulf.at.faults()  # the refused token
    ulf.at.close()


def test_a_logout_leaves_nobody_logged_in(site: Site) -> None:
    """The tab shows one user, and an application has logged in another: the browser has no session afterwards."""
    wim = Someone.of(site, "wim", second_factor=False)
    xia = Someone.of(site, "xia", second_factor=False)
    for button in ("Log out", "End all sessions"):
        wim.log_in()
        wim.at.follow("Sessions")
        wim.at.see("This one")
        wim.at.run(APPLICATION, credentials={"username": xia.username, "password": xia.password})
        wim.at.press(button)
        if button != "Log out":
            wim.at.run("await page.locator('dialog').getByRole('button', { name: 'End all sessions' }).click()")
        wim.at.heading("Log in")
        assert (button != "Log out") == ("Another user was logged in here" in wim.at.text())
        assert "__Host-keyturn-refresh" not in wim.at.run("return (await context.cookies()).map((one) => one.name)")
        wim.at.open(site.page)
        wim.at.heading("Log in")
    wim.at.faults()  # the refused tokens
    wim.at.close()


@pytest.mark.parametrize("link", ["reset-password", "confirm-email", "cancel-email", "invitation"])
def test_a_link_is_forgotten_when_the_user_goes_elsewhere(site: Site, link: str) -> None:
    """The next user of the tab cannot use it."""
    visitor = site.profile()
    gone = "Open the link in the message again"
    visitor.open(f"{site.page}#{link}=ktl_of_somebody")
    assert gone not in visitor.text()
    visitor.run("await page.evaluate(() => { location.hash = 'login'; })")
    visitor.heading("Log in")
    visitor.run("await page.goBack()")
    visitor.see(gone)
    assert f"{site.page}#{link}" == visitor.url()
    assert [] == visitor.faults()
    visitor.close()


def test_a_reset_in_the_browser_of_another_user(site: Site) -> None:
    """The page says whose password is not set, and whose session the browser still has."""
    yan = Someone(site, site.profile(), "yan")
    yan.sign_up(email="yan@example.com", second_factor=False)
    yan.at.open(site.find_link("yan@example.com", "confirm-email"))
    yan.at.press("Confirm the address")
    yan.at.heading("The address is confirmed")
    zoe = Someone.of(site, "zoe", second_factor=False)
    zoe.log_in()
    zoe.at.run("await page.request.post(values.url, { data: { username: 'yan' } })", url=f"{site.url}/password-reset")
    zoe.at.open(site.find_link("yan@example.com", "reset-password"))
    zoe.at.fill(password="another long password of yan")
    zoe.at.press("Set the password")
    zoe.at.heading("The password is set")
    said = zoe.at.text("main")
    assert "The link was for another account. zoe is still logged in here." in said
    assert "Log in with it" not in said
    zoe.at.follow("Go on as zoe")
    zoe.at.heading("Hello, zoe")
    zoe.at.press("Log out")
    zoe.at.heading("Log in")
    yan.password = "another long password of yan"
    yan.give_password(zoe.at)
    zoe.at.heading("Hello, yan")
    assert [] == zoe.at.faults()
    for at in (yan.at, zoe.at):
        at.close()


def test_refused_forms_remember_no_username(site: Site) -> None:
    """What was typed may be a password, in the wrong field. A sign-up and a forgotten password remember it too."""
    at = site.profile()
    read = "return page.evaluate(() => [localStorage, sessionStorage].flatMap(Object.values))"
    at.open(f"{site.page}#signup")
    at.fill(username="abe", password="short")
    at.press("Create the account")
    at.see("The password needs at least")
    assert [] == at.run(read)
    at.open(f"{site.page}#forgot")
    at.run("await context.setOffline(true)")
    at.fill(username="abe")
    at.press("Send the link")
    at.see("The service did not answer.")
    assert [] == at.run(read)
    at.run("await context.setOffline(false)")
    at.press("Send the link")
    at.run("await page.locator('[role=status]').waitFor()")
    assert ["abe"] == at.run(read)
    at.faults()  # the refusals
    at.close()
