/** Several tabs of one browser share a session: one refresh, one user, one logout. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { deferred, inBrowser, ISSUER, person, unavailable, until } from "./doubles.mjs";

const TABS = 20;
const NIGHT = 8 * 3600; // seconds

/** Log a user in, in the first of twenty tabs that then have an access token. */
async function loggedInTabs(browser) {
  const someone = await person();
  const [first, ...others] = browser.open(TABS);
  await someone.logIn(first);
  await Promise.all(others.map((tab) => tab.restoreSession()));
  return someone;
}

const tokens = (browser) => Promise.all(browser.tabs.map((tab) => tab.accessToken()));
const users = (browser) => browser.tabs.map((tab) => tab.user?.username);

test("a new tab gets the access token of another tab, without a refresh", () =>
  inBrowser({}, async (browser) => {
    const someone = await loggedInTabs(browser);
    const late = browser.tab();
    assert.equal((await late.restoreSession()).username, someone.username);
    assert.equal(await late.accessToken(), await browser.tabs[0].accessToken());
    assert.equal(browser.sent("/token"), 0);
  }));

test("twenty tabs that wake at once refresh once, and have the same token", () =>
  inBrowser({}, async (browser) => {
    await loggedInTabs(browser);
    const before = browser.generation;
    browser.sleep(NIGHT);
    assert.equal(new Set(await tokens(browser)).size, 1);
    assert.equal(browser.sent("/token"), 1);
    assert.equal(browser.generation, before + 1);
  }));

test("twenty tabs that wake one after the other refresh once", () =>
  inBrowser({}, async (browser) => {
    await loggedInTabs(browser);
    browser.sleep(NIGHT);
    const wakes = browser.tabs.map(async (tab, number) => {
      await new Promise((resolve) => setTimeout(resolve, number * 7));
      return tab.accessToken();
    });
    assert.equal(new Set(await Promise.all(wakes)).size, 1);
    assert.equal(browser.sent("/token"), 1);
  }));

test("without Web Locks and BroadcastChannel a race of twenty refreshes is one rotation", () =>
  inBrowser({ locks: false, channel: false, origin: ISSUER }, async (browser) => {
    const someone = await person();
    await someone.logIn(browser.tab());
    browser.open(TABS - 1);
    browser.sleep(NIGHT);
    const before = browser.generation;
    await tokens(browser);
    assert.equal(browser.sent("/token"), TABS);
    assert.equal(browser.generation, before + 1);
    browser.sleep(NIGHT);
    await tokens(browser);
    assert.deepEqual(users(browser), Array(TABS).fill(someone.username));
  }));

test("without Web Locks and BroadcastChannel tabs that wake one after the other are one rotation", () =>
  inBrowser({ locks: false, channel: false }, async (browser) => {
    const someone = await person();
    await someone.logIn(browser.tab());
    browser.open(4);
    browser.sleep(NIGHT);
    const before = browser.generation;
    for (const tab of browser.tabs) await tab.accessToken();
    assert.equal(browser.sent("/token"), 5);
    assert.equal(browser.generation, before + 1);
    assert.deepEqual(users(browser), Array(5).fill(someone.username));
  }));

test("with only one of the two nobody is logged out", async () => {
  for (const options of [{ channel: false }, { locks: false }])
    await inBrowser(options, async (browser) => {
      const someone = await person();
      await someone.logIn(browser.tab());
      browser.open(TABS - 1);
      for (let nights = 0; nights < 2; nights += 1) {
        browser.sleep(NIGHT);
        await tokens(browser);
      }
      assert.deepEqual(users(browser), Array(TABS).fill(someone.username));
    });
});

test("a login in one tab logs the others in, and a logout logs them out", () =>
  inBrowser({}, async (browser) => {
    const seen = [];
    const [first, second] = browser.open(2);
    second.onChange((user) => seen.push(user?.username));
    assert.equal(await second.restoreSession(), null);
    const someone = await person();
    await someone.logIn(first);
    await until(() => second.user);
    assert.equal(await second.accessToken(), await first.accessToken());
    await second.logOut();
    await until(() => first.user === null);
    assert.equal(browser.cookie, undefined);
    assert.deepEqual(seen, [undefined, someone.username, undefined]);
    assert.equal(await browser.tab().restoreSession(), null);
  }));

test("another user who logs in takes the place of the first in every tab", () =>
  inBrowser({}, async (browser) => {
    const [first, second] = browser.open(2);
    await (await person({ mfa: false })).logIn(first);
    await until(() => second.user);
    const other = await person({ mfa: false });
    await other.logIn(second);
    await until(() => first.user.username === other.username);
    assert.equal((await first.account()).username, other.username);
  }));

test("a session that ended elsewhere logs all tabs out", () =>
  inBrowser({}, async (browser) => {
    const someone = await loggedInTabs(browser);
    const elsewhere = browser.tab({ session: "memory" });
    await someone.logIn(elsewhere);
    await elsewhere.endSession(browser.tabs[0].user.sid);
    await assert.rejects(browser.tabs[7].account(), { code: "invalid_grant" });
    await until(() => users(browser).filter(Boolean).length === 1);
    assert.equal(elsewhere.user.username, someone.username);
    assert.equal(browser.tabs[3].user, null);
  }));

test("a refusal of an old session does not end the login of another tab", () =>
  inBrowser({ locks: false }, async (browser) => {
    const someone = await person();
    const [first, second] = browser.open(2);
    await someone.logIn(first);
    await until(() => second.user);
    const elsewhere = browser.tab({ session: "memory" });
    await someone.logIn(elsewhere);
    await elsewhere.endSession(first.user.sid);
    browser.sleep(NIGHT);
    const [refused, slow] = [deferred(), deferred()];
    const after = () => {
      refused.resolve();
      return slow.promise;
    };
    browser.faults.push(["/token", { after }]);
    const waiting = second.accessToken();
    await refused.promise;
    await someone.logIn(first);
    await until(() => second.user.sid === first.user.sid);
    slow.resolve();
    assert.equal(await waiting, await first.accessToken());
    assert.equal(second.user.sid, first.user.sid);
  }));

test("an outage logs nobody out, and one tab's failure spares the others an attempt", () =>
  inBrowser({}, async (browser) => {
    const someone = await loggedInTabs(browser);
    browser.sleep(NIGHT);
    for (let number = 0; number < 3; number += 1) browser.faults.push(["/token", unavailable()]);
    const results = await Promise.allSettled(browser.tabs.map((tab) => tab.accessToken()));
    assert.deepEqual(new Set(results.map(({ reason }) => reason?.status)), new Set([503]));
    assert.equal(browser.sent("/token"), 3);
    await tokens(browser);
    assert.deepEqual(users(browser), Array(TABS).fill(someone.username));
  }));

test("an answer to a refresh that comes after the logout of another tab logs nobody in", () =>
  inBrowser({ locks: false }, async (browser) => {
    const someone = await person();
    const [first, second] = browser.open(2);
    await someone.logIn(first);
    await until(() => second.user);
    browser.sleep(NIGHT);
    const [answered, slow] = [deferred(), deferred()];
    const after = () => {
      answered.resolve();
      return slow.promise;
    };
    browser.faults.push(["/token", { after }]);
    const waiting = first.accessToken();
    await answered.promise;
    await second.logOut();
    await until(() => first.user === null);
    slow.resolve();
    await assert.rejects(waiting, { code: "login_required" });
    assert.equal(first.user, null);
  }));
