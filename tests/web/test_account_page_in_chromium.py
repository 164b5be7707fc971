"""The account page in Chromium: what users do there, by clicking and typing."""

import httpx2
import pytest

from tests.harness.account_page import Site, Someone
from tests.harness.databases import PATIENT_SECONDS

pytestmark = pytest.mark.heavy


def test_the_whole_story(site: Site) -> None:
    """Sign up, scan the QR code, save the codes, log out and in, end another session, reset the password by mail."""
    ada = Someone(site, site.profile(), "ada")
    codes = ada.sign_up(email="ada@example.com")
    assert 10 == len(codes)
    ada.at.open(site.find_link("ada@example.com", "confirm-email"))
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
    other.open(site.find_link("ada@example.com", "reset-password"))
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
    site.clock.advance(seconds=60)
    other.press("Log out")
    other.heading("Log in")
    assert [] == ada.at.faults() + other.faults()
    other.close()
    ada.at.close()


def test_a_deleted_account_is_restored(site: Site) -> None:
    """The account is gone at once; with the password and a code its user takes it back."""
    ben = Someone.of(site, "ben")
    ben.log_in()
    ben.at.follow("Your data")
    ben.at.press("Delete the account…")
    ben.at.fill(password=ben.password)
    ben.at.press("Delete the account")
    ben.at.heading("Your account is deleted")
    ben.at.see("Until 6 December 2026 you can restore the account.")
    ben.at.follow("Restore a deleted account")
    ben.at.heading("Restore your account")
    ben.at.fill(username="ben", password=ben.password)
    ben.at.press("Restore the account")
    ben.at.heading("Enter your code")
    ben.at.fill(otp=ben.code())
    ben.at.heading("Hello, ben")
    assert [] == ben.at.faults()
    ben.at.close()


def test_what_needs_a_fresh_proof_asks_for_it_and_goes_on(site: Site) -> None:
    """New recovery codes and an export, more than five minutes after the login: one code for both."""
    cleo = Someone.of(site, "cleo")
    cleo.log_in()
    site.clock.advance(seconds=400)
    cleo.at.follow("Security")
    cleo.at.press("Make new codes")
    cleo.at.run("await page.locator('dialog').last().getByRole('button', { name: 'Make new codes' }).click()")
    cleo.at.see("Enter a code to go on.")
    cleo.at.fill(otp=cleo.code())
    cleo.at.heading("Recovery codes")
    text = cleo.at.run(
        """
        const [file] = await Promise.all([
          page.waitForEvent("download"), page.getByRole("button", { name: "Download" }).click(),
        ]);
        return (await (await import("node:fs/promises")).readFile(await file.path(), "utf8"));
        """
    )
    assert text.startswith("Keyturn: cleo\n")
    copied = cleo.at.run(
        """
        await context.grantPermissions(["clipboard-read", "clipboard-write"]);
        await page.getByRole("button", { name: "Copy" }).click();
        await page.getByText("Copied.").first().waitFor();
        return page.evaluate(() => navigator.clipboard.readText());
        """
    )
    assert text == copied
    assert 10 == len([line for line in text.splitlines() if len(line) == 19])
    cleo.at.run("await page.locator('input[name=saved]').check()")
    cleo.at.press("Continue")
    cleo.at.follow("Your data")
    name = cleo.at.run(
        """
        const [file] = await Promise.all([
          page.waitForEvent("download"), page.getByRole("button", { name: "Download" }).click(),
        ]);
        return file.suggestedFilename();
        """
    )
    assert "account.json" == name
    assert [] == cleo.at.faults()
    cleo.at.close()


def test_without_a_second_factor_the_password_is_the_fresh_proof(site: Site) -> None:
    """The session that the proof replaces ends; a dialog that is closed leaves everything as it was."""
    dora = Someone.of(site, "dora", second_factor=False)
    dora.log_in()
    site.clock.advance(seconds=400)
    dora.at.follow("Your data")
    dora.at.press("Download")
    dora.at.see("Enter your password to go on.")
    dora.at.press("Cancel")
    dora.at.press("Download")
    dora.at.see("Enter your password to go on.")
    dora.at.fill(password=dora.password)
    dora.at.run(
        "await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Go on' }).click()])"
    )
    dora.at.follow("Sessions")
    dora.at.see("This one")
    assert 1 == dora.at.run("return page.locator('.items li').count()")
    assert [] == dora.at.faults()
    dora.at.close()


def test_authenticators_are_added_named_and_removed(site: Site) -> None:
    """The first one can be begun again, and brings recovery codes. A second one has a name, which is text."""
    eve = Someone.of(site, "eve", second_factor=False)
    eve.log_in()
    eve.at.follow("Set it up")
    eve.at.press("Set up a second factor")
    eve.at.fill(password=eve.password)
    eve.at.press("Next")
    eve.scan()
    eve.at.press("Cancel")
    eve.at.open(f"{site.page}#security")
    eve.at.see("Not confirmed")
    removals = "return page.getByRole('button', { name: 'Remove', exact: true }).count()"
    assert 0 == eve.at.run(removals), "a removal needs the second factor that is not finished"
    eve.at.press("Set up a second factor")
    eve.at.fill(password=eve.password)
    eve.at.press("Next")
    eve.scan()
    eve.at.fill(otp=eve.code())
    eve.at.heading("Recovery codes")
    eve.at.run("await page.locator('input[name=saved]').check()")
    eve.at.press("Continue")
    eve.at.see("Unused codes: 10")
    site.clock.next_step()
    name = "<img src=x onerror=alert(1)>{name}</p>"
    eve.at.press("Add an authenticator")
    eve.at.fill(name=name, password=eve.password)
    eve.at.press("Next")
    first = eve.secret
    eve.scan()
    assert first != eve.secret
    eve.at.fill(otp=eve.code())
    eve.at.see("The authenticator is set up.")
    eve.at.see(name)
    eve.at.run("await page.getByRole('button', { name: 'Remove', exact: true }).last().click()")
    eve.at.see(f"Codes of “{name}” do not work any more")
    eve.at.run("await page.locator('dialog').getByRole('button', { name: 'Remove', exact: true }).click()")
    eve.at.see("The authenticator is removed")
    assert name not in eve.at.text("main")
    eve.at.follow("Activity")
    eve.at.see("Authenticator removed")
    assert name in eve.at.text("main")
    assert 0 == eve.at.run("return page.locator('main img').count()")
    assert [] == eve.at.faults()
    eve.at.close()


def test_an_authenticator_is_renamed(site: Site) -> None:
    """The dialog has the old name. Two clicks are one request, and a refusal keeps what was typed; a name is text."""
    lou = Someone.of(site, "lou")
    lou.log_in()
    lou.at.follow("Security")
    lou.at.run("kept.sent = 0; page.on('request', (r) => { if (r.method() === 'PATCH') kept.sent += 1; })")
    lou.at.press("Rename")
    lou.at.see("Give “Authenticator” another name.")
    assert "Authenticator" == lou.at.run("return page.locator('dialog input[name=name]').inputValue()")
    submit = "page.locator('dialog').getByRole('button', { name: 'Rename', exact: true })"
    lou.at.fill(name=" ")
    lou.at.run(f"await {submit}.click()")
    lou.at.see("Please fill in this field.")
    lou.at.fill(name="\u200b")
    lou.at.run(f"await {submit}.click()")
    lou.at.see("1 to 64 characters.")
    assert "\u200b" == lou.at.run("return page.locator('dialog input[name=name]').inputValue()")
    assert 1 == lou.at.run("return kept.sent")
    name = "<img src=x onerror=alert(1)>{name}</p>"
    lou.at.fill(name=name)
    lou.at.run(f"await {submit}.dblclick()")
    lou.at.see("The authenticator has its new name.")
    lou.at.see(name)
    assert 2 == lou.at.run("return kept.sent")
    lou.at.press("Rename")
    lou.at.see(f"Give “{name}” another name.")
    lou.at.press("Cancel")
    lou.at.follow("Activity")
    lou.at.see("Authenticator renamed")
    assert name in lou.at.text("main")
    assert 0 == lou.at.run("return page.locator('main img').count()")
    assert [] == [fault for fault in lou.at.faults() if "422" not in fault]
    lou.at.close()


def test_the_second_factor_is_turned_off(site: Site) -> None:
    """It takes the password and a code, and ends every session."""
    finn = Someone.of(site, "finn")
    finn.log_in()
    finn.at.follow("Security")
    finn.at.press("Turn it off")
    finn.at.fill(password=finn.password, otp=finn.code())
    finn.at.heading("Log in")
    finn.at.see("Your second factor is off. Log in again.")
    finn.secret = ""
    finn.give_password()
    finn.at.see("Your account has no second factor yet")
    assert [] == finn.at.faults()
    finn.at.close()


def test_the_password_is_changed(site: Site) -> None:
    """What is wrong with a new one is said beside the form, and nothing that was typed is lost."""
    gil = Someone.of(site, "gil")
    gil.log_in()
    gil.at.follow("Security")
    gil.at.fill(current_password="not the password", new_password="another good password")
    gil.at.press("Change the password")
    gil.at.see("The password is not right.")
    assert ["current_password"] == gil.at.run(
        "return page.locator('[aria-invalid]').evaluateAll((fields) => fields.map(({ name }) => name))"
    )
    gil.at.fill(current_password=gil.password, new_password="password1")
    gil.at.press("Change the password")
    gil.at.see("Many people use this password")
    gil.at.fill(new_password="short")
    gil.at.press("Change the password")
    gil.at.see("The password needs at least 8 characters.")
    assert gil.password == gil.at.run("return page.locator('input[name=current_password]').inputValue()")
    gil.at.fill(new_password="another good password")
    gil.at.press("Change the password")
    gil.at.see("Your password is changed")
    assert [] == gil.at.faults()
    gil.at.close()


def test_the_address_is_changed_refused_and_removed(site: Site) -> None:
    """The notice to the old address refuses the new one. Opening a link does nothing before a button is pressed."""
    hal = Someone.of(site, "hal")
    hal.log_in()
    hal.at.press("Add an address")
    hal.at.fill(email="hal@example.com", password=hal.password)
    hal.at.press("Send the link")
    hal.at.see("We sent a link to hal@example.com.")
    link = site.find_link("hal@example.com", "confirm-email")
    for _ in range(2):
        hal.at.open(link)
        hal.at.heading("Confirm your e-mail address")
    hal.at.press("Confirm the address")
    hal.at.heading("The address is confirmed")
    hal.at.open(link)
    hal.at.press("Confirm the address")
    hal.at.see("This link has expired or was used already.")
    hal.at.open(f"{site.page}#overview")
    hal.at.press("Change the address")
    hal.at.fill(email='"<b>hal</b>"@example.com', password=hal.password)
    hal.at.press("Send the link")
    hal.at.see("This is not an e-mail address.")
    hal.at.fill(email="thief@example.com")
    hal.at.press("Send the link")
    hal.at.see("We sent a link to thief@example.com.")
    hal.at.open(site.find_link("hal@example.com", "cancel-email"))
    hal.at.press("Refuse the new address")
    hal.at.heading("The new address is refused")
    hal.at.follow("To your account")
    hal.at.see("hal@example.com")
    hal.at.press("Remove the address")
    hal.at.run("await page.locator('dialog').getByRole('button', { name: 'Remove the address' }).click()")
    hal.at.see("The address is removed.")
    assert [] == hal.at.faults()
    hal.at.close()


def test_the_language_of_messages_is_chosen(site: Site) -> None:
    """It is stored for the messages only: the page stays in its language, and the next message is in the new one."""
    mia = Someone.of(site, "mia")
    mia.log_in()
    mia.at.press("Add an address")
    mia.at.fill(email="mia@example.com", password=mia.password)
    mia.at.press("Send the link")
    mia.at.see("We sent a link to mia@example.com.")
    mia.at.open(site.find_link("mia@example.com", "confirm-email"))
    mia.at.press("Confirm the address")
    mia.at.open(f"{site.page}#overview")
    choice = "page.getByLabel('Language of messages')"
    assert "" == mia.at.run(f"return await {choice}.inputValue()")
    mia.at.run(f"await {choice}.selectOption('fr')")
    mia.at.press("Save the language")
    mia.at.see("The language is saved.")
    mia.at.heading("Hello, mia")
    mia.at.open(f"{site.page}#activity")
    mia.at.see("Language of messages changed")
    mia.at.open(f"{site.page}#overview")
    assert "fr" == mia.at.run(f"return await {choice}.inputValue()")
    mia.at.press("Change the address")
    mia.at.fill(email="mia@example.org", password=mia.password)
    mia.at.press("Send the link")
    mia.at.see("We sent a link to mia@example.org.")
    site.find_link("mia@example.org", "confirm-email")
    assert ["Veuillez confirmer votre adresse e-mail"] == site.subjects_to("mia@example.org")
    assert [] == mia.at.faults()
    mia.at.close()


def test_lost_authenticator(site: Site) -> None:
    """Delayed recovery is requested on the page, shown to the user, and cancelled there."""
    ida = Someone.of(site, "ida")
    ida.log_in()
    other = site.profile()
    other.open(f"{site.page}#login")
    ida.give_password(other)
    other.follow("I lost my authenticator and my recovery codes")
    other.see("wait for 3 days")
    other.fill(username="ida", password=ida.password)
    other.press("Request it")
    other.heading("Now wait")
    ida.at.open(f"{site.page}#overview")
    ida.at.see("A new second factor was requested")
    ida.at.press("Cancel it")
    ida.at.see("The request is cancelled.")
    assert [] == ida.at.faults() + other.faults()
    other.close()
    ida.at.close()


def test_all_sessions_end(site: Site) -> None:
    """Also those of this browser; another tab of it learns so at once."""
    joe = Someone.of(site, "joe")
    joe.log_in()
    joe.at.run("kept.tab = await context.newPage(); await kept.tab.goto(values.url)", url=f"{site.page}#security")
    joe.at.run("await kept.tab.getByRole('heading', { name: 'Security' }).waitFor()")
    joe.at.follow("Sessions")
    joe.at.press("End all sessions")
    joe.at.run("await page.locator('dialog').getByRole('button', { name: 'End all sessions' }).click()")
    joe.at.see("All sessions have ended.")
    joe.at.run("await kept.tab.getByRole('heading', { name: 'Log in' }).waitFor()")
    assert [] == joe.at.faults()
    joe.at.close()


def test_a_reset_in_a_browser_that_is_logged_in(site: Site) -> None:
    """Its session has ended with the others: the page asks for the new password."""
    kay = Someone(site, site.profile(), "kay")
    kay.sign_up(email="kay@example.com", second_factor=False)
    kay.at.open(site.find_link("kay@example.com", "confirm-email"))
    kay.at.press("Confirm the address")
    kay.at.heading("The address is confirmed")
    httpx2.post(f"{site.url}/password-reset", json={"username": "kay"}, timeout=PATIENT_SECONDS).raise_for_status()
    kay.at.open(site.find_link("kay@example.com", "reset-password"))
    kay.password = "another long password of kay"
    kay.at.fill(password=kay.password)
    kay.at.press("Set the password")
    kay.at.heading("Log in")
    kay.at.see("Your password is set. Log in with it.")
    kay.give_password()
    kay.at.heading("Hello, kay")
    assert [] == kay.at.faults()
    kay.at.close()
