"""A user of Chromium who has a keyboard and no mouse. Every step asserts that the focus is visible."""

from tests.harness.account_page import Someone
from tests.harness.chromium import Profile

MAX_PRESSES = 40
"""No view has so many controls."""

FOCUS = """
/** Where the focus is, whether `found` has it, and why the user does not see it (or null). */
const look = (found) => {
  const at = document.activeElement;
  const isThere = found.includes(at);
  if (at === null || at === document.body) return { at: "body", isThere, reason: "nothing has the focus" };
  const { top, bottom, left, right, width, height } = at.getBoundingClientRect();
  const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(at);
  const isOutlined = outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 && !/[,/] 0\\)$/.test(outlineColor);
  const isOnScreen = bottom > 0 && top < innerHeight && right > 0 && left < innerWidth;
  const reason = width <= 1 || height <= 1 ? "the focus is in an element that is not seen"
    : !isOnScreen ? "the focus is not on the screen"
    : at.tabIndex < 0 || (isOutlined && at.matches(":focus-visible")) ? null // a heading needs no outline
    : "the focus has no outline";
  return { at: at.outerHTML.slice(0, 160), isThere, reason };
};
const focus = async (target = page.locator("body")) => {
  const { at, isThere, reason } = await target.evaluateAll(look);
  if (reason !== null) throw new Error(`${reason}: ${at}`);
  return { at, isThere };
};
"""

REACH = (
    FOCUS
    + """
const { name, role, key, presses, isOpened } = values;
const place = (await page.locator("dialog").count()) ? page.locator("dialog").last() : page;
const target = role ? place.getByRole(role, { name, exact: true }) : place.getByLabel(name, { exact: true });
await target.first().waitFor();
const stops = [];
for (let count = 0; count <= presses; count += 1) {
  if (count > 0) await page.keyboard.press(key);
  else if (isOpened) continue; // nothing has the focus yet
  const { at, isThere } = await focus(target);
  if (isThere) return;
  stops.push(at);
}
throw new Error(`${key} does not reach ${name}, but: ${stops.join("\\n")}`);
"""
)

HEADING = (
    FOCUS
    + """
const heading = page.getByRole("heading", { name: values.text, level: 1, exact: true });
await heading.waitFor();
await page.waitForFunction(() => document.activeElement.localName === "h1");
const { at, isThere } = await focus(heading);
if (!isThere) throw new Error(`the focus is in ${at}`);
"""
)


class Keyboard:
    """The keyboard of a profile. Nothing here clicks, and no script moves the focus."""

    def __init__(self, at: Profile) -> None:
        self.at = at
        self._is_opened = False

    def open(self, url: str) -> None:
        """Load a page, by its link in a message for example. Tab begins at its first control."""
        self.at.open(url)
        self._is_opened = True

    def press(self, *keys: str) -> None:
        """Press keys one after the other. They are sent to what has the focus, which must be visible."""
        self.at.run(
            FOCUS
            + """
            for (const key of values.keys) {
              await focus();
              await page.keyboard.press(key);
            }
            """,
            keys=keys,
        )

    def type(self, text: str) -> None:
        self.at.run("await page.keyboard.type(values.text)", text=text)

    def reach(self, name: str, role: str = "", *, back: bool = False) -> None:
        """Press Tab (with `back` Shift+Tab) until the field, or the control with this role, has the focus."""
        key = "Shift+Tab" if back else "Tab"
        self.at.run(REACH, name=name, role=role, key=key, presses=MAX_PRESSES, isOpened=self._is_opened)
        self._is_opened = False

    def fill(self, fields: dict[str, str]) -> None:
        """Go to each field by its label, and type into it. The field is empty before."""
        for label, text in fields.items():
            self.reach(label)
            self.type(text)

    def button(self, name: str, *, by: str = "Enter", back: bool = False) -> None:
        self.reach(name, "button", back=back)
        self.press(by)

    def follow(self, name: str, *, back: bool = False) -> None:
        self.reach(name, "link", back=back)
        self.press("Enter")

    def heading(self, text: str) -> None:
        """Wait until a view has this heading, and assert that the heading has the focus."""
        self.at.run(HEADING, text=text)

    def dialog(self, name: str) -> None:
        """Wait until a dialog has this name, and assert that the focus is visible in it."""
        self.at.run(
            FOCUS
            + """
            const dialog = page.getByRole("dialog", { name: values.name, exact: true });
            await dialog.waitFor();
            await focus();
            const isInside = await dialog.evaluate((element) => element.contains(document.activeElement));
            if (!isInside) throw new Error("the focus is not in the dialog");
            """,
            name=name,
        )

    def focus_after_dialog(self) -> str:
        """Wait until no dialog is open, and return what has the focus."""
        self.at.run("await page.locator('dialog').waitFor({ state: 'detached' })")
        return self.focus()

    def focus(self) -> str:
        """Return the text or the label of what has the focus."""
        text: str = self.at.run(
            """
            return page.evaluate(() => {
              const at = document.activeElement;
              return (at.labels?.length ? at.labels[0] : at).textContent;
            });
            """
        )
        return text


def log_in(user: Someone, keys: Keyboard) -> None:
    """Give the password and the code where the login has been opened. The username is there already."""
    keys.fill({"Password": user.password})
    keys.press("Enter")
    if user.secret:
        keys.heading("Enter your code")
        keys.fill({"Verification code": user.code()})
    keys.heading(f"Hello, {user.username}")
    user.site.clock.next_step()


def open_account(user: Someone) -> Keyboard:
    """Log in as a user whose account was made without the page."""
    keys = Keyboard(user.at)
    keys.open(f"{user.site.page}#login")
    keys.reach("Username or e-mail address")
    keys.type(user.username)
    log_in(user, keys)
    return keys
