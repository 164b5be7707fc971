"""What a screen reader gets: the accessibility trees of the login and of the code step, and of their refusals."""

import re
from textwrap import dedent

import pytest

from tests.harness.account_page import Site, Someone
from tests.harness.chromium import Profile
from tests.harness.people import PASSWORD

pytestmark = pytest.mark.heavy

TREE = """
const cdp = await context.newCDPSession(page);
const { nodes } = await cdp.send("Accessibility.getFullAXTree");
await cdp.detach();
const byId = new Map(nodes.map((node) => [node.nodeId, node]));
const SILENT = ["none", "generic", "LabelText", "InlineTextBox", "RootWebArea", "MenuListPopup"];
const STATES = ["invalid", "required", "disabled", "pressed", "checked", "live", "level", "focused", "busy"];
const lines = [];

function write(node, depth, named, isLabel = false) {
  const role = node.role?.value;
  const name = node.name?.value ?? "";
  let below = depth;
  const repeats = role === "StaticText" && (isLabel || named === name); // a label is the name of its field
  if (!node.ignored && !SILENT.includes(role) && !repeats) {
    const states = node.properties
      .filter(({ name: state, value }) => STATES.includes(state) && `${value.value}` !== "false")
      .map(({ name: state, value }) => (`${value.value}` === "true" ? state : `${state}=${value.value}`));
    const description = node.description?.value;
    const value = node.value?.value;
    lines.push("  ".repeat(depth) + [
      role === "StaticText" ? name : `${role} ${name && JSON.stringify(name)}`.trim(),
      value !== undefined && `= ${value}`,
      ...states,
      description && `description: ${description}`,
    ].filter(Boolean).join(", "));
    below += 1;
  }
  // What is in a field or a button is its value or its name.
  if (["textbox", "button", "checkbox", "option", "combobox"].includes(role)) return;
  for (const id of node.childIds ?? []) write(byId.get(id), below, name || named, isLabel || role === "LabelText");
}

write(values.place ? nodes.find(({ role }) => role?.value === values.place) : nodes[0], 0, "");
return lines.join("\\n");
"""


def hears(at: Profile, expected: str, place: str = "form") -> None:
    """Assert the tree below the element with the role `place`, or of the whole page."""
    found = re.sub(r"in \d+ seconds?\.", "in N seconds.", at.run(TREE, place=place))
    assert dedent(expected).strip() == found


def test_the_login(site: Site) -> None:
    """The whole page as it is opened: landmarks, one heading, and each field with its label."""
    visitor = site.profile()
    visitor.open(f"{site.page}#login")
    hears(
        visitor,
        """
        button "Skip to the content"
        banner
          link "Keyturn"
        main
          heading "Log in", level=1
          paragraph
            To your account at Keyturn
          form
            textbox "Username or e-mail address", required
            textbox "Password", required
            button "Show the password"
            checkbox "Remember this device Only if nobody else uses it."
            button "Log in"
          link "Forgot your password?"
          link "Create an account"
          link "Restore a deleted account"
        contentinfo
          combobox "Language", = English
        """,
        place="",
    )
    visitor.press("Log in")
    visitor.see("Please fill in this field.")
    hears(
        visitor,
        """
        form
          textbox "Username or e-mail address", invalid, focused, required, description: Please fill in this field.
          paragraph
            Please fill in this field.
          textbox "Password", invalid, required, description: Please fill in this field.
          button "Show the password"
          paragraph
            Please fill in this field.
          checkbox "Remember this device Only if nobody else uses it."
          button "Log in"
        """,
    )
    visitor.close()


def test_a_refused_login(site: Site) -> None:
    """An alert, which is read at once, and the focus is in the password's field.

    No field is marked, because the service does not say which one is wrong.
    """
    eva = Someone.of(site, "eva")
    eva.at.open(f"{site.page}#login")
    eva.at.fill(username="eva", password="wrong")
    eva.at.press("Log in")
    eva.at.see("The username or the password is not right.")
    hears(
        eva.at,
        """
        form
          alert, live=assertive
            The username or the password is not right. Check both: capital letters matter in the password.
          textbox "Username or e-mail address", = eva, required
          textbox "Password", = •••••, focused, required
          button "Show the password"
          checkbox "Remember this device Only if nobody else uses it."
          button "Log in"
        """,
    )
    eva.at.close()


def test_a_refused_sign_up(site: Site) -> None:
    """The alert says what is wrong, and the field that has to change is marked and has the focus."""
    una = Someone.of(site, "una")
    for username, password, wrong in (("una", PASSWORD, "username"), ("una-2", "short", "password")):
        una.at.open(f"{site.page}#login")  # the form is built again
        una.at.open(f"{site.page}#signup")
        una.at.fill(username=username, password=password)
        una.at.press("Create the account")
        found = una.at.run(
            "await page.waitForSelector('[role=alert]');"
            "return page.evaluate(() => [document.activeElement.name,"
            " ...[...document.querySelectorAll('[aria-invalid]')].map(({ name }) => name)]);"
        )
        assert [wrong, wrong] == found
    una.at.close()


def test_the_code_step(site: Site) -> None:
    """The heading has the focus. After a refusal an alert is read, and the focus is in the field, which is marked."""
    ivo = Someone.of(site, "ivo")
    ivo.at.open(f"{site.page}#login")
    ivo.give_password()
    ivo.at.heading("Enter your code")
    hint = "Six digits of your authenticator app."
    hears(
        ivo.at,
        f"""
        main
          heading "Enter your code", focused, level=1
          paragraph
            Open your authenticator app and enter the code that it shows.
          form
            textbox "Verification code", required, description: {hint} The code is sent when it is complete.
            paragraph
              {hint} The code is sent when it is complete.
            button "Log in"
          button "Use a recovery code"
          link "I lost my authenticator and my recovery codes"
          link "Log in as another user"
        """,
        place="main",
    )
    wrong = next(f"{n:06d}" for n in range(100) if f"{n:06d}" not in {ivo.code(step) for step in range(-12, 13)})
    ivo.at.fill(otp=wrong)
    ivo.at.see("The next code appears")
    hears(
        ivo.at,
        f"""
        form
          alert, live=assertive
            This code is not right, was used already, or has expired. Enter the next one.
          textbox "Verification code", = {wrong}, invalid, focused, required, description: {hint}
          paragraph
            {hint}
          timer
            The next code appears in N seconds.
          button "Log in"
        """,
    )
    ivo.at.close()
