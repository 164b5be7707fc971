"""The account page in Chromium when something is wrong: codes, waits, the network, other sites, other languages."""

import re

import httpx2
import pytest

from tests.harness.account_page import Site, Someone, serving
from tests.harness.chromium import Profile
from tests.harness.databases import PATIENT_SECONDS
from tests.web.conftest import ORIGIN

pytestmark = pytest.mark.heavy

ATTRIBUTES = """
return page.locator("form input:not([type=checkbox])").evaluateAll((inputs) => inputs.map((input) =>
  [input.type, input.name, input.autocomplete, input.inputMode, input.value].join(" ").trim()));
"""


def test_a_clock_that_is_off_is_explained_and_aligned(site: Site) -> None:
    """The page says by how much the clock is off; the next code of that clock is accepted."""
    kim = Someone.of(site, "kim")
    kim.at.open(f"{site.page}#login")
    kim.give_password()
    kim.at.heading("Enter your code")
    kim.at.fill(otp=kim.code(4))
    kim.at.see("The clock of your phone is ahead by 2 minutes.")
    site.clock.next_step()
    kim.at.fill(otp=kim.code(4))
    kim.at.press("Log in")
    kim.at.heading("Hello, kim")
    kim.at.follow("Activity")
    kim.at.see("Clock of the authenticator adjusted")
    assert [] == kim.at.faults()
    kim.at.close()


def test_a_wrong_code_says_when_the_next_one_appears(site: Site) -> None:
    """The first complete code is sent by itself and only once, later ones by the button. A paste may have spaces."""
    lea = Someone.of(site, "lea")
    lea.at.open(f"{site.page}#login")
    lea.give_password()
    lea.at.heading("Enter your code")
    lea.at.run("kept.sent = 0; page.on('request', (r) => { if (r.url().endsWith('/login-2fa')) kept.sent += 1; })")
    wrong = next(f"{n:06d}" for n in range(100) if f"{n:06d}" not in {lea.code(step) for step in range(-12, 13)})
    lea.at.fill(otp=wrong)
    lea.at.see("This code is not right, was used already, or has expired.")
    assert re.search(r"The next code appears in \d+ seconds?\.", lea.at.text("[role=timer]"))
    lea.at.fill(otp=f"{lea.code()[:3]} {lea.code()[3:]}")
    lea.at.run("await page.waitForTimeout(300)")
    assert 1 == lea.at.run("return kept.sent"), "later codes wait for the button"
    lea.at.press("Log in")
    lea.at.heading("Hello, lea")
    assert [] == lea.at.faults()
    lea.at.close()


def test_waiting_is_counted_down(site: Site) -> None:
    """After 429 and 503 the button waits as long as the service says, and the form keeps what was typed."""
    max_ = Someone.of(site, "max", second_factor=False)
    max_.at.open(f"{site.page}#login")
    for _ in range(6):
        max_.at.fill(username="max", password="wrong")
        max_.at.press("Log in")
        max_.at.run("await page.locator('form[aria-busy=false] [role=alert]').waitFor()")
    max_.at.see("Too many attempts.")
    assert re.search(r"You can try again in \d+ seconds?\.", max_.at.text("[role=timer]"))
    assert "true" == max_.at.run("return page.locator('button[type=submit]').getAttribute('aria-disabled')")
    max_.at.see("You can try again now.")
    site.clock.advance(seconds=60)
    max_.at.run(
        """
        await page.route("**/login", (route) => route.fulfill({
          status: 503, headers: { "retry-after": "2" }, contentType: "application/problem+json",
          body: JSON.stringify({ code: "busy", title: "busy", status: 503 }),
        }), { times: 1 });
        """
    )
    max_.at.fill(password=max_.password)
    max_.at.press("Log in")
    max_.at.see("Many people log in at this moment.")
    max_.at.see("You can try again now.")
    max_.at.press("Log in")
    max_.at.heading("Hello, max")
    assert [] == max_.at.faults()
    max_.at.close()


def test_nothing_typed_is_lost_when_the_network_fails(site: Site) -> None:
    """Nor when the language changes; the same button works when the network is back."""
    ned = site.profile()
    ned.open(f"{site.page}#signup")
    ned.fill(username="ned", email="ned@example.com", password="correct horse battery staple")
    ned.run("await page.locator('input[name=enable_mfa]').uncheck(); await context.setOffline(true)")
    ned.press("Create the account")
    ned.see("The service did not answer.")
    ned.run("await context.setOffline(false); await page.locator('footer select').selectOption('fr')")
    ned.heading("Créer un compte")
    ned.see("Vérifiez votre connexion")
    ned.press("Créer le compte")
    ned.heading("Bonjour, ned")
    assert [] == [fault for fault in ned.faults() if "ERR_INTERNET_DISCONNECTED" not in fault]
    ned.close()


def test_a_login_with_the_keyboard_alone(site: Site) -> None:
    """Tab and Enter suffice; the focus is visible and goes to the top of each view; the code is sent by itself."""
    ole = Someone.of(site, "ole")
    ole.at.open(f"{site.page}#login")
    ole.at.run(
        """
        const focused = () => page.evaluate(() => document.activeElement.name || document.activeElement.localName);
        const tabTo = async (name) => {
          for (let presses = 0; presses < 12; presses += 1) {
            await page.keyboard.press("Tab");
            if (await focused() === name) return;
          }
          throw new Error(`Tab does not reach ${name}`);
        };
        await tabTo("username");
        const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
        if (outline === "none") throw new Error("the focus is not visible");
        await page.keyboard.type("ole");
        await tabTo("password");
        await page.keyboard.type(values.password);
        await page.keyboard.press("Enter");
        await page.getByRole("heading", { name: "Enter your code" }).waitFor();
        if (await focused() !== "h1") throw new Error(`the focus is at ${await focused()}`);
        await tabTo("otp");
        await page.keyboard.type(values.code);
        """,
        password=ole.password,
        code=ole.code(),
    )
    ole.at.heading("Hello, ole")
    assert [] == ole.at.faults()
    ole.at.close()


def test_password_managers_recognise_the_forms(site: Site) -> None:
    """Each password has the username of its account beside it, and a code field is for one-time codes."""
    pat = Someone.of(site, "pat")
    at = pat.at
    at.open(f"{site.page}#login")
    login = ["text username username", "password password current-password"]
    assert login == [line.strip() for line in at.run(ATTRIBUTES)]
    at.follow("Create an account")
    at.heading("Create an account")
    made = at.run(ATTRIBUTES)
    assert ["text username username", "email email email", "password password new-password"] == [
        line.removesuffix(" pat").strip() for line in made
    ]
    at.open(f"{site.page}#login")
    pat.give_password()
    at.heading("Enter your code")
    assert ["text otp one-time-code numeric"] == at.run(ATTRIBUTES)
    at.fill(otp=pat.code())
    at.heading("Hello, pat")
    at.follow("Security")
    at.see("All other sessions end when you change it.")
    assert [
        "text username username  pat",
        "password current_password current-password",
        "password new_password new-password",
    ] == at.run(ATTRIBUTES)
    at.open(f"{site.page}#reset-password=ktl_nothing")
    assert ["text username username  pat", "password password new-password"] == at.run(ATTRIBUTES)
    at.close()


def test_the_back_button(site: Site) -> None:
    """From the code back to the password, with the username; and never back into a login that is done."""
    quinn = Someone.of(site, "quinn")
    at = quinn.at
    at.open(f"{site.page}#login")
    quinn.give_password()
    at.heading("Enter your code")
    at.run("await page.goBack()")
    at.heading("Log in")
    assert "quinn" == at.run("return page.locator('input[name=username]').inputValue()")
    quinn.give_password()
    at.heading("Enter your code")
    at.fill(otp=quinn.code())
    at.heading("Hello, quinn")
    at.follow("Sessions")
    at.follow("Security")
    at.run("await page.goBack()")
    at.heading("Sessions")
    at.run("await page.goBack(); await page.goBack()")
    at.heading("Hello, quinn")
    at.run("await page.reload()")
    at.heading("Hello, quinn")
    assert [] == at.faults()
    at.close()


def test_texts_of_users_and_programs_are_text(site: Site) -> None:
    """A User-Agent with markup is shown as it is, also where it is part of a sentence."""
    agent = "<img src=x onerror=alert(1)>{address}$&<script>document.title='taken'</script>"
    rob = Someone.of(site, "rob", second_factor=False, userAgent=agent)
    rob.log_in()
    other = site.profile()
    rob.log_in(other)
    for at in (rob.at, other):
        at.follow("Sessions")
        at.see(agent)
        assert "Sessions \N{EN DASH} Keyturn" == at.run("return page.title()")
    other.press("End")
    assert f"{agent}, from 127.0.0.1: it is logged out at once." in other.text("dialog")
    assert 0 == other.run("return page.locator('img').count()")
    assert [] == rob.at.faults() + other.faults()
    other.close()
    rob.at.close()


def test_an_address_with_special_characters_is_text(site: Site) -> None:
    """On every view that shows it or sends it: the notice, the login, the QR code, and the overview."""
    address = "o'neil&copy=?$&%27+#`|~@example.com"
    zed = Someone(site, site.profile(), "zed")
    details = {"username": "zed", "password": zed.password, "email": address, "enable_mfa": True}
    httpx2.post(f"{site.url}/signup", json=details, timeout=PATIENT_SECONDS).raise_for_status()
    zed.at.open(site.find_link(address, "confirm-email"))
    zed.at.press("Confirm the address")
    zed.at.heading("The address is confirmed")
    zed.at.follow("Back to the login")
    zed.at.fill(username=address, password=zed.password)
    zed.at.press("Log in")
    zed.at.heading("Set up your authenticator")
    zed.scan()
    zed.at.run("await page.goBack()")
    zed.at.heading("Log in")
    assert address == zed.at.run("return page.locator('input[name=username]').inputValue()")
    zed.at.run("await page.goForward()")
    zed.at.heading("Set up your authenticator")
    zed.at.fill(otp=zed.code())
    zed.at.heading("Recovery codes")
    zed.at.open(f"{site.page}#overview")
    zed.at.see(address)
    zed.at.press("Change the address")
    zed.at.fill(email=f"new-{address}", password=zed.password)
    zed.at.press("Send the link")
    zed.at.see(f"We sent a link to new-{address}. The address is used when you confirm it.")
    assert [] == zed.at.faults()
    zed.at.close()


def test_no_other_site_puts_the_page_into_a_frame(site: Site) -> None:
    """Nor opens it and keeps a handle on its window."""
    thief = site.profile()
    thief.run(
        """
        await page.route("https://evil.example/", (route) => route.fulfill({
          contentType: "text/html", body: `<iframe src="${values.page}"></iframe>`,
        }));
        await page.goto("https://evil.example/");
        await page.waitForTimeout(1000);
        """,
        page=site.page,
    )
    shown = thief.run("return Promise.all(page.frames().slice(1).map((frame) => frame.locator('#page').count()))")
    assert [0] == shown
    opened = thief.run(
        """
        const [other] = await Promise.all([
          context.waitForEvent("page"), page.evaluate((url) => { globalThis.other = window.open(url); }, values.page),
        ]);
        await other.waitForSelector("h1");
        return page.evaluate(() => globalThis.other.closed);
        """,
        page=site.page,
    )
    assert opened, "the handle is cut off"
    thief.close()


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "https://app.example.com.evil.example/",
        "https://app.example.com@evil.example/",
        "https://user@app.example.com/",
        "http://app.example.com/",
        "https://app.example.com:8443/",
        "//app.example.com/",
        "javascript:alert(1)//https://app.example.com",
        "data:text/html,https://app.example.com",
        "blob:https://app.example.com/x",
        "/login",
    ],
)
def test_the_page_returns_to_named_origins_only(site: Site, returner: Profile, target: str) -> None:
    """A link to the page with another address of return shows the page, and offers nothing."""
    returner.run(
        """
        await page.goto("about:blank");
        await page.goto(`${values.page}?return_to=${encodeURIComponent(values.target)}#overview`);
        await page.getByRole("heading", { name: "Hello, sue" }).waitFor();
        """,
        page=site.page,
        target=target,
    )
    assert 5 == returner.run("return page.locator('nav a').count()")
    assert returner.url().startswith(site.page)


@pytest.fixture(scope="module")
def returner(site: Site) -> Profile:
    sue = Someone.of(site, "sue", second_factor=False)
    sue.log_in()
    return sue.at


def test_after_a_login_the_user_returns_to_the_application(site: Site) -> None:
    """At once after a login, and by a link if the user is logged in already."""
    tim = Someone.of(site, "tim", second_factor=False)
    at = tim.at
    at.run(
        """
        await page.route(`${values.origin}/**`, (route) => route.fulfill({
          contentType: "text/html", body: "<h1>The application</h1>",
        }));
        """,
        origin=ORIGIN,
    )
    at.open(f"{site.page}?return_to={ORIGIN}/cart%3Fitem%3D1#login")
    tim.give_password()
    at.heading("The application")
    assert f"{ORIGIN}/cart?item=1" == at.url()
    at.open(f"{site.page}?return_to={ORIGIN}/cart")
    at.heading("Hello, tim")
    at.follow("Back to app.example.com")
    at.heading("The application")
    assert [] == at.faults()
    at.close()


@pytest.mark.parametrize(
    ("locale", "title"),
    [("de-AT", "Anmelden"), ("fr-CA", "Se connecter"), ("es-MX", "Iniciar sesión"), ("pt-BR", "Log in")],
)
def test_the_language_is_that_of_the_browser(site: Site, locale: str, title: str) -> None:
    """A browser with another language gets English. What the user chooses is remembered."""
    visitor = site.profile(locale=locale)
    visitor.open(site.page)
    visitor.heading(title)
    visitor.run("await page.locator('footer select').selectOption('es')")
    visitor.heading("Iniciar sesión")
    visitor.open(site.page)
    visitor.heading("Iniciar sesión")
    assert ["es", "ltr"] == visitor.run(
        "return page.evaluate(() => ['lang', 'dir'].map((n) => document.documentElement[n]))"
    )
    assert [] == visitor.faults()
    visitor.close()


def test_without_its_sentences_the_page_says_so(site: Site) -> None:
    """An empty page would help nobody; one language that is missing is replaced by English."""
    visitor = site.profile(locale="de-DE")
    visitor.run("await page.route('**/i18n/de.json', (route) => route.abort())")
    visitor.open(site.page)
    visitor.heading("Log in")
    visitor.run("await page.route('**/i18n/en.json', (route) => route.abort())")
    visitor.run("await page.goto('about:blank'); await page.goto(values.url)", url=site.page)
    visitor.see("The page could not be loaded. Please load it again.")
    visitor.close()


def test_closed_and_invited_sign_up_and_no_messages(site: Site) -> None:
    """The page offers only what the service does."""
    (folder := site.folder / "invited").mkdir()
    with serving(site.browser, folder, signup="invited", messages="off") as invited:
        guest = invited.profile()
        guest.open(invited.page)
        assert "Forgot your password?" not in guest.text()
        guest.follow("Create an account")
        guest.see("You need an invitation to create an account.")
        guest.open(f"{invited.page}#invitation=ktl_nothing")
        assert f"{invited.page}#invitation" == guest.url()
        guest.fill(username="vera", password="correct horse battery staple")
        guest.press("Create the account")
        guest.see("This invitation was used, has expired, or is for another address.")
        assert [] == guest.faults()
        guest.close()
    (folder := site.folder / "closed").mkdir()
    with serving(site.browser, folder, signup="closed") as closed:
        guest = closed.profile()
        guest.open(closed.page)
        assert "Create an account" not in guest.text()
        guest.open(f"{closed.page}#signup")
        guest.see("New accounts are closed here.")
        assert [] == guest.faults()
        guest.close()
