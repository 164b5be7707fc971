"""Many tabs of the account page in one profile of Chromium, which refresh at the same time over a slow network."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.harness.account_page import Site, Someone, serving
from tests.harness.chromium import Browser
from tests.harness.rounds import rounds

pytestmark = pytest.mark.heavy

REFRESHED_AFTER_SECONDS = 25
"""From 24 s on a token of 30 s is refreshed."""

OPEN = """
context.setDefaultTimeout(60_000);
await context.addInitScript((missing) => {
  const now = Date.now;
  globalThis.late = 0;
  Date.now = () => now() + globalThis.late;
  if (missing.includes("locks")) Object.defineProperty(navigator, "locks", { value: undefined });
  if (missing.includes("BroadcastChannel")) delete globalThis.BroadcastChannel;
}, values.missing);
kept.tabs = await Promise.all(Array.from({ length: values.count }, async () => {
  const tab = await context.newPage();
  const cdp = await context.newCDPSession(tab);
  const slow = { offline: false, latency: 200, downloadThroughput: 100_000, uploadThroughput: 20_000 };
  await cdp.send("Network.emulateNetworkConditions", slow);
  return { tab, cdp };
}));
await Promise.all(kept.tabs.map(async ({ tab }) => {
  await tab.goto(values.url);
  await tab.getByRole("heading", { name: `Hello, ${values.user}` }).waitFor();
}));
"""

AGE = "await Promise.all(kept.tabs.map(({ tab }) => tab.evaluate((ms) => { globalThis.late += ms; }, values.ms)))"
"""Let time pass in every tab."""

SHOW = """
const shown = kept.tabs.slice(values.first).map(async ({ tab }) => {
  await tab.evaluate((view) => { location.hash = view; }, values.view);
  await tab.getByRole("heading", { name: values.heading, level: 1, exact: true }).waitFor();
  await tab.locator("main .items li").first().waitFor();
  await tab.locator("header").getByText(values.user).waitFor();
});
"""
"""Open a view in the tabs from `first` on, and expect what only a logged-in user sees there."""

FREEZE = "await kept.tabs[0].cdp.send('Page.setWebLifecycleState', { state: 'frozen' });"
THAW = "await kept.tabs[0].cdp.send('Page.setWebLifecycleState', { state: 'active' });"

SESSIONS = {"view": "sessions", "heading": "Sessions"}
ACTIVITY = {"view": "activity", "heading": "Activity"}


@pytest.fixture(scope="module")
def site(chromium_browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A service with access tokens of the shortest lifetime."""
    with serving(chromium_browser, tmp_path_factory.mktemp("tabs"), access_ttl="30s") as opened:
        yield opened


def rotations(site: Site, username: str) -> int:
    """Return how often the refresh token of the user's only session was replaced."""
    with closing(sqlite3.connect(site.settings.sqlite_file)) as database:
        (found,) = database.execute(
            "SELECT generation, ended_at FROM sessions WHERE user_id = (SELECT id FROM users WHERE username = ?)",
            [username],
        ).fetchall()
    generation, ended_at = found
    assert ended_at is None
    return int(generation)


def age(site: Site, someone: Someone) -> None:
    """Let the access tokens of all tabs become old."""
    site.clock.advance(seconds=REFRESHED_AFTER_SECONDS)
    someone.at.run(AGE, ms=REFRESHED_AFTER_SECONDS * 1000)


@pytest.mark.rounds
def test_many_tabs_refresh_once_and_a_frozen_one_goes_on(site: Site) -> None:
    """One tab refreshes for all, at most once in ten seconds. A tab that was frozen takes the newest token."""
    amy = Someone.of(site, "amy", second_factor=False)
    amy.log_in()
    amy.at.run(OPEN, url=site.page, user="amy", count=rounds(8, long=20, everything=20), missing=[])
    assert rotations(site, "amy") <= 1, "the first page may have closed before another tab asked it for its token"
    before = rotations(site, "amy")
    age(site, amy)
    amy.at.run(SHOW + "await Promise.all(shown)", first=0, user="amy", **SESSIONS)
    assert before + 1 == rotations(site, "amy")
    amy.at.run(FREEZE)
    for view in (ACTIVITY, SESSIONS):
        age(site, amy)
        amy.at.run(SHOW + "await Promise.all(shown)", first=1, user="amy", **view)
    assert before + 3 == rotations(site, "amy")
    amy.at.run(THAW + SHOW + "await Promise.all(shown)", first=0, user="amy", **ACTIVITY)
    assert before + 3 == rotations(site, "amy")
    amy.at.close()


def test_a_tab_that_is_frozen_while_it_refreshes_ends_no_session(site: Site) -> None:
    """The others wait for it, because it holds the lock, and go on with its token."""
    bob = Someone.of(site, "bob", second_factor=False)
    bob.log_in()
    bob.at.run(OPEN, url=site.page, user="bob", count=3, missing=[])
    before = rotations(site, "bob")
    age(site, bob)
    bob.at.run(
        f"""
        const begun = kept.tabs[0].tab.waitForRequest("**/token");
        await kept.tabs[0].tab.evaluate(() => {{ location.hash = "sessions"; }});
        await begun;
        {FREEZE}
        {SHOW}
        await page.waitForTimeout(500);
        {THAW}
        await Promise.all(shown);
        """,
        first=0, user="bob", **SESSIONS,
    )  # fmt: skip
    assert before + 1 == rotations(site, "bob")
    bob.at.close()


@pytest.mark.parametrize("missing", [["locks"], ["BroadcastChannel"], ["locks", "BroadcastChannel"]], ids="-".join)
def test_without_web_locks_or_channels_nobody_is_logged_out(site: Site, missing: list[str]) -> None:
    """Each tab refreshes by itself then, and all go on."""
    name = "-".join(["without", *missing]).lower()
    someone = Someone.of(site, name, second_factor=False)
    someone.log_in()
    someone.at.run(OPEN, url=site.page, user=name, count=4, missing=missing)
    for view in (SESSIONS, ACTIVITY):
        age(site, someone)
        someone.at.run(SHOW + "await Promise.all(shown)", first=0, user=name, **view)
    assert rotations(site, name) >= 2
    someone.at.close()
