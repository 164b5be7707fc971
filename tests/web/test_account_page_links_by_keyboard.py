"""The account page in Chromium by keyboard alone: links of messages, the first authenticator, a proof by password."""

import pytest

from tests.harness.account_page import Site, Someone
from tests.harness.keyboard import Keyboard, open_account

pytestmark = pytest.mark.heavy


def test_the_link_of_an_invitation(site: Site) -> None:
    """It leads to the form, a wrong address is refused there, and the account is made without a second factor."""
    site.invite("kb-liv@example.com")
    liv = Someone(site, site.profile(), "kb-liv", password="a long password without a second factor")
    keys = Keyboard(liv.at)
    keys.open(site.find_link("kb-liv@example.com", "invitation"))
    liv.at.see("You are invited to Keyturn.")
    keys.fill({"Username": liv.username, "E-mail address": "kb-eve@example.com", "New password": liv.password})
    keys.reach("Protect it with a second factor Recommended: an app on your phone shows a new code for each login.",
               "checkbox")  # fmt: skip
    keys.press("Space")
    keys.button("Create the account")
    liv.at.see("This invitation was used, has expired, or is for another address.")
    keys.reach("E-mail address", back=True)
    keys.press("Control+A")
    keys.type("kb-liv@example.com")
    keys.press("Enter")
    keys.heading("Hello, kb-liv")
    liv.at.see("kb-liv@example.com")
    assert [] == liv.at.faults()
    liv.at.close()


def test_a_new_address_is_refused_with_the_link_of_the_notice(site: Site) -> None:
    """A button behind the link refuses it. The second time the sentence says that the link was used."""
    mio = Someone.of(site, "kb-mio", second_factor=False)
    keys = open_account(mio)
    for button, email in (("Add an address", "kb-mio@example.com"), ("Change the address", "kb-thief@example.com")):
        keys.button(button)
        keys.dialog("Change the address")
        keys.fill({"E-mail address": email, "Password": mio.password})
        keys.press("Enter")
        keys.heading("Hello, kb-mio")
        mio.at.see(f"We sent a link to {email}.")
        if email == "kb-mio@example.com":
            keys.open(site.find_link(email, "confirm-email"))
            keys.button("Confirm the address")
            keys.heading("The address is confirmed")
            keys.follow("To your account")
            keys.heading("Hello, kb-mio")
    link = site.find_link("kb-mio@example.com", "cancel-email")
    keys.open(link)
    keys.button("Refuse the new address")
    keys.heading("The new address is refused")
    keys.follow("To your account")
    keys.heading("Hello, kb-mio")
    assert "kb-thief" not in mio.at.text("main")
    keys.open(link)
    keys.button("Refuse the new address", by="Space")
    mio.at.see("This link has expired or was used already. Log in to see which address your account has.")
    assert "Refuse the new address" == keys.focus()
    assert [] == mio.at.faults()
    mio.at.close()


def test_the_first_authenticator_is_set_up(site: Site) -> None:
    """From the notice of the overview to the recovery codes; a wrong code moves the focus to its field."""
    nia = Someone.of(site, "kb-nia", second_factor=False)
    keys = open_account(nia)
    keys.follow("Set it up")
    keys.heading("Security")
    keys.button("Set up a second factor")
    keys.dialog("Add an authenticator")
    keys.fill({"Password": nia.password})
    keys.press("Enter")
    keys.dialog("Set up your authenticator")
    keys.press("Escape")
    assert "Set up a second factor" == keys.focus_after_dialog()
    keys.press("Space")
    keys.dialog("Add an authenticator")
    keys.fill({"Password": nia.password})
    keys.press("Enter")
    keys.dialog("Set up your authenticator")
    nia.scan()
    wrong = next(f"{n:06d}" for n in range(100) if f"{n:06d}" not in {nia.code(step) for step in range(-12, 13)})
    keys.fill({"The code that the app shows now": wrong})
    nia.at.see("This code is not right, was used already, or has expired.")
    assert "The code that the app shows now" == keys.focus()
    keys.type(nia.code())
    keys.press("Enter")
    keys.heading("Recovery codes")
    keys.reach("I have saved my recovery codes", "checkbox")
    keys.press("Space")
    keys.button("Continue")
    keys.heading("Security")
    nia.at.see("Unused codes: 10")
    assert [] == nia.at.faults()
    nia.at.close()


def test_without_a_second_factor_the_password_is_the_fresh_proof(site: Site) -> None:
    """Escape leaves the button that asked for it with the focus; so does the answer."""
    oda = Someone.of(site, "kb-oda", second_factor=False)
    keys = open_account(oda)
    site.clock.advance(seconds=400)
    keys.follow("Your data", back=True)
    keys.heading("Your data")
    keys.button("Download")
    keys.dialog("Prove that it is you")
    keys.press("Escape")
    assert "Download" == keys.focus_after_dialog()
    keys.press("Space")
    keys.dialog("Prove that it is you")
    assert "Password" == keys.focus()
    keys.type("wrong")
    keys.press("Enter")
    oda.at.see("The password is not right.")
    assert "Password" == keys.focus()
    keys.press("Control+A")
    keys.type(oda.password)
    oda.at.run("kept.download = page.waitForEvent('download')")
    keys.press("Enter")
    assert "account.json" == oda.at.run("return (await kept.download).suggestedFilename()")
    assert "Download" == keys.focus_after_dialog()
    assert [] == oda.at.faults()
    oda.at.close()
