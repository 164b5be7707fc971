"""The account page in Chromium by keyboard alone: the focus is visible, and no change of a view loses it."""

import httpx2
import pytest

from tests.harness.account_page import Site, Someone
from tests.harness.databases import PATIENT_SECONDS
from tests.harness.keyboard import Keyboard, log_in, open_account

pytestmark = pytest.mark.heavy


def test_sign_up_and_recovery_codes(site: Site) -> None:
    """Each control works with its key: links with Enter, check boxes with Space, buttons with both."""
    ada = Someone(site, site.profile(), "kb-ada")
    keys = Keyboard(ada.at)
    keys.open(f"{site.page}#login")
    keys.follow("Create an account")
    keys.heading("Create an account")
    keys.fill({"Username": "kb-ada", "New password": "short"})
    keys.button("Show the password", by="Space")
    keys.press("Space")
    keys.reach("Protect it with a second factor Recommended: an app on your phone shows a new code for each login.",
               "checkbox")  # fmt: skip
    keys.press("Space", "Space")
    keys.button("Create the account")
    ada.at.see("The password needs at least 8 characters.")
    assert "New password" == keys.focus()
    keys.press("Control+A")
    keys.type(ada.password)
    keys.press("Enter")
    keys.heading("Set up your authenticator")
    ada.scan()
    keys.reach("Open in an app on this device", "link")
    keys.press("Tab", "Enter")
    ada.at.see("Enter this key in the app.")
    keys.fill({"The code that the app shows now": ada.code()})
    keys.heading("Recovery codes")
    ada.at.run("await context.grantPermissions(['clipboard-read', 'clipboard-write'])")
    keys.button("Copy")
    ada.at.see("Copied.")
    assert "Copy" == keys.focus()
    keys.button("Download", by="Space")
    keys.button("Continue")
    ada.at.see("Save your recovery codes first")
    keys.reach("I have saved my recovery codes", "checkbox", back=True)
    keys.press("Space")
    keys.button("Continue", by="Space")
    keys.heading("Hello, kb-ada")
    keys.button("Log out", back=True)
    keys.heading("Log in")
    site.clock.next_step()
    log_in(ada, keys)
    assert [] == ada.at.faults()
    ada.at.close()


def test_a_forgotten_password(site: Site) -> None:
    """The link of the message is opened, and the rest is typed."""
    ben = Someone(site, site.profile(), "kb-ben")
    details = {"username": ben.username, "password": ben.password, "email": "kb-ben@example.com"}
    httpx2.post(f"{site.url}/signup", json=details, timeout=PATIENT_SECONDS).raise_for_status()
    keys = Keyboard(ben.at)
    keys.open(site.find_link("kb-ben@example.com", "confirm-email"))
    keys.button("Confirm the address")
    keys.heading("The address is confirmed")
    keys.follow("Back to the login")
    keys.heading("Log in")
    keys.follow("Forgot your password?")
    keys.heading("Forgotten password")
    keys.fill({"Username or e-mail address": "kb-ben@example.com"})
    keys.press("Enter")
    keys.heading("Look into your mailbox")
    keys.open(site.find_link("kb-ben@example.com", "reset-password"))
    ben.password = "another long password of ben"
    keys.fill({"New password": ben.password})
    keys.press("Enter")
    keys.heading("Log in")
    ben.at.see("Your password is set. Log in with it.")
    keys.fill({"Password": ben.password})
    keys.press("Enter")
    keys.heading("Hello, kb-ben")
    assert [] == ben.at.faults()
    ben.at.close()


def test_the_password_is_changed(site: Site) -> None:
    """A refusal moves the focus to the field that is wrong."""
    cat = Someone.of(site, "kb-cat", second_factor=False)
    keys = open_account(cat)
    keys.follow("Security", back=True)
    keys.heading("Security")
    keys.fill({"Current password": "wrong", "New password": "another long password of cat"})
    keys.press("Enter")
    cat.at.see("The password is not right.")
    assert "Current password" == keys.focus()
    keys.press("Control+A")
    keys.type(cat.password)
    keys.button("Change the password")
    keys.heading("Security")
    cat.at.see("Your password is changed")
    assert [] == cat.at.faults()
    cat.at.close()


def test_an_authenticator_is_added_and_removed(site: Site) -> None:
    """Dialogs keep the focus; Escape closes one, and gives the focus back to the button that opened it."""
    dan = Someone.of(site, "kb-dan")
    keys = open_account(dan)
    keys.follow("Security", back=True)
    keys.heading("Security")
    keys.button("Add an authenticator")
    keys.dialog("Add an authenticator")
    keys.press("Escape")
    assert "Add an authenticator" == keys.focus_after_dialog()
    keys.press("Space")
    keys.dialog("Add an authenticator")
    keys.fill({"Name": "tablet", "Password": dan.password})
    keys.press("Enter")
    keys.dialog("Set up your authenticator")
    dan.scan()
    keys.fill({"The code that the app shows now": dan.code()})
    keys.heading("Security")
    dan.at.see("The authenticator is set up.")
    site.clock.advance(seconds=600)
    keys.reach("Add an authenticator", "button")
    keys.button("Remove", back=True)
    keys.dialog("Remove")
    keys.button("Remove")
    keys.dialog("Prove that it is you")
    keys.press("Escape")
    keys.dialog("Remove")
    keys.button("Remove")
    keys.dialog("Prove that it is you")
    keys.fill({"Verification code": dan.code()})
    keys.heading("Security")
    dan.at.see("The authenticator is removed")
    keys.button("Make new codes")
    keys.dialog("Make new codes")
    keys.button("Make new codes")
    keys.heading("Recovery codes")
    assert [] == dan.at.faults()
    dan.at.close()


def test_an_authenticator_is_renamed(site: Site) -> None:
    """What is typed replaces the old name. After an old login the page asks for a code and goes on."""
    lia = Someone.of(site, "kb-lia")
    keys = open_account(lia)
    keys.follow("Security", back=True)
    keys.heading("Security")
    keys.button("Rename")
    keys.dialog("Rename")
    keys.press("Escape")
    assert "Rename" == keys.focus_after_dialog()
    site.clock.advance(seconds=600)
    keys.press("Space")
    keys.dialog("Rename")
    assert "Name" == keys.focus()
    keys.type("Old phone")
    keys.press("Enter")
    keys.dialog("Prove that it is you")
    keys.press("Escape")
    keys.dialog("Rename")
    keys.button("Rename")
    keys.dialog("Prove that it is you")
    keys.fill({"Verification code": lia.code()})
    keys.heading("Security")
    lia.at.see("The authenticator has its new name.")
    assert "Old phone" == lia.at.text(".items strong")
    assert [] == lia.at.faults()
    lia.at.close()


def test_the_address_is_changed(site: Site) -> None:
    """The dialog, and the button behind the link of the message."""
    eve = Someone.of(site, "kb-eve")
    keys = open_account(eve)
    keys.button("Add an address")
    keys.dialog("Change the address")
    keys.fill({"E-mail address": "kb-eve@example.com", "Password": eve.password})
    keys.button("Send the link")
    keys.heading("Hello, kb-eve")
    eve.at.see("We sent a link to kb-eve@example.com.")
    keys.open(site.find_link("kb-eve@example.com", "confirm-email"))
    keys.button("Confirm the address", by="Space")
    keys.heading("The address is confirmed")
    keys.follow("To your account")
    keys.heading("Hello, kb-eve")
    eve.at.see("kb-eve@example.com")
    keys.button("Remove the address")
    keys.dialog("Remove the address")
    keys.button("Remove the address")
    keys.heading("Hello, kb-eve")
    eve.at.see("The address is removed.")
    assert [] == eve.at.faults()
    eve.at.close()


def test_sessions_end(site: Site) -> None:
    """Another one, and then all of them."""
    fay = Someone.of(site, "kb-fay")
    other = site.profile()
    fay.log_in(other)
    keys = open_account(fay)
    keys.follow("Sessions", back=True)
    keys.heading("Sessions")
    keys.button("End")
    keys.dialog("End")
    keys.button("Cancel")
    assert "End" == keys.focus_after_dialog()
    keys.press("Enter")
    keys.dialog("End")
    keys.button("End")
    keys.heading("Sessions")
    fay.at.see("The session has ended.")
    keys.button("End all sessions")
    keys.dialog("End all sessions")
    keys.button("End all sessions")
    keys.heading("Log in")
    fay.at.see("All sessions have ended.")
    assert [] == fay.at.faults()
    for at in (fay.at, other):
        at.close()


def test_an_account_is_deleted_and_restored(site: Site) -> None:
    """With the password, and to restore it with a code, too."""
    gus = Someone.of(site, "kb-gus")
    keys = open_account(gus)
    keys.follow("Your data", back=True)
    keys.heading("Your data")
    keys.button("Delete the account…")
    keys.dialog("Delete the account")
    keys.fill({"Password": gus.password})
    keys.press("Enter")
    keys.heading("Your account is deleted")
    keys.follow("Restore a deleted account")
    keys.heading("Restore your account")
    keys.fill({"Password": gus.password})
    keys.press("Enter")
    keys.heading("Enter your code")
    keys.button("Use a recovery code")
    assert "Recovery code" == keys.focus()
    keys.button("Use the authenticator app")
    assert "Verification code" == keys.focus()
    keys.type(gus.code())
    keys.heading("Hello, kb-gus")
    assert [] == gus.at.faults()
    gus.at.close()


def test_the_language_is_switched(site: Site) -> None:
    """The arrow keys change it in place: the focus stays, and what was typed."""
    at = site.profile()
    keys = Keyboard(at)
    keys.open(f"{site.page}#login")
    keys.fill({"Username or e-mail address": "kb-hal"})
    keys.reach("Language", "combobox")
    for key, title, label in (("ArrowDown", "Anmelden", "Sprache"), ("ArrowUp", "Log in", "Language")):
        keys.press(key)
        at.heading(title)
        assert keys.focus().startswith(label)
    assert "kb-hal" == at.run("return page.locator('input[name=username]').inputValue()")
    assert [] == at.faults()
    at.close()


def test_a_part_that_failed_is_loaded_again(site: Site) -> None:
    """The button that tries again is gone then; the focus is at the place where it was."""
    ida = Someone.of(site, "kb-ida", second_factor=False)
    keys = open_account(ida)
    ida.at.run("await page.route('**/sessions', (route) => route.abort(), { times: 2 })")
    keys.follow("Sessions", back=True)
    keys.heading("Sessions")
    for _ in range(2):
        keys.button("Try again")
        ida.at.run("await page.locator('main [aria-busy]').waitFor({ state: 'detached' })")
    keys.button("End all sessions")
    keys.dialog("End all sessions")
    assert [] == [fault for fault in ida.at.faults() if "net::ERR_FAILED" not in fault]
    ida.at.close()


def test_a_start_that_failed_without_a_session(site: Site) -> None:
    """The second attempt finds that nobody is logged in, and its notice is gone: the focus goes to the heading."""
    at = site.profile()
    keys = Keyboard(at)
    at.run("await page.route('**/token', (route) => route.fulfill({ status: 429 }), { times: 1 })")
    keys.open(f"{site.page}#login")
    keys.button("Try again")
    at.run("await page.locator('[role=alert]').waitFor({ state: 'detached' })")
    keys.heading("Log in")
    assert [] == at.faults()
    at.close()


def test_what_else_an_account_has(site: Site) -> None:
    """An export, a recovery that somebody else requested, the language of messages, the end of the second factor."""
    jim = Someone.of(site, "kb-jim")
    keys = open_account(jim)
    httpx2.post(
        f"{site.url}/recovery", json={"username": "kb-jim", "password": jim.password}, timeout=PATIENT_SECONDS
    ).raise_for_status()
    keys.follow("Your data", back=True)
    keys.heading("Your data")
    jim.at.run("kept.download = page.waitForEvent('download')")
    keys.button("Download")
    assert "account.json" == jim.at.run("return (await kept.download).suggestedFilename()")
    keys.follow("Overview", back=True)
    keys.heading("Hello, kb-jim")
    keys.button("Cancel it")
    keys.heading("Hello, kb-jim")
    jim.at.see("The request is cancelled.")
    keys.reach("Language of messages", "combobox")
    keys.press("ArrowDown")
    keys.button("Save the language")
    keys.heading("Hello, kb-jim")
    jim.at.see("The language is saved.")
    keys.follow("Security", back=True)
    keys.heading("Security")
    keys.button("Turn it off")
    keys.dialog("Turn it off")
    keys.fill({"Password": jim.password, "Verification code": jim.code()})
    keys.heading("Log in")
    jim.at.see("Your second factor is off. Log in again.")
    assert [] == jim.at.faults()
    jim.at.close()


def test_a_lost_authenticator(site: Site) -> None:
    """From the code step to the request, and back to the login."""
    kim = Someone.of(site, "kb-kim")
    keys = Keyboard(kim.at)
    keys.open(f"{site.page}#login")
    keys.fill({"Username or e-mail address": "kb-kim", "Password": kim.password})
    keys.press("Enter")
    keys.heading("Enter your code")
    keys.follow("I lost my authenticator and my recovery codes")
    keys.heading("Authenticator lost")
    keys.fill({"Password": kim.password})
    keys.button("Request it")
    keys.heading("Now wait")
    keys.follow("Back to the login")
    keys.heading("Log in")
    assert [] == kim.at.faults()
    kim.at.close()
