/** Another user logs in in another tab, and this tab does not get the message, or gets it in the middle of a request. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { deferred, inBrowser, person, until } from "./doubles.mjs";

const CHANGED = { name: "KeyturnError", code: "user_changed", status: 0 };

/** Run a story with a tab that shows the first user, and another one that has logged them out and the second in. */
function afterAnotherLogin(name, story) {
  test(name, () =>
    inBrowser({ channel: false }, async (browser) => {
      const [first, second] = [await person({ mfa: false }), await person({ mfa: false })];
      const [tab, other] = browser.open(2);
      await first.logIn(tab);
      await other.restoreSession();
      await other.logOut();
      await second.logIn(other);
      assert.equal(tab.user.username, first.username);
      await story({ browser, first, second, tab, other });
    }));
}

afterAnotherLogin("a refused request of a user is not sent again as another", async ({ browser, second, tab }) => {
  const seen = [];
  tab.onChange((user) => seen.push(user.username));
  await assert.rejects(tab.request("DELETE", "/email"), CHANGED);
  assert.equal(browser.sent("/email"), 1);
  assert.deepEqual(seen, [second.username]);
  assert.equal(tab.user.username, second.username);
  assert.equal((await tab.account()).username, second.username);
});

afterAnotherLogin("a request that has to refresh first is not sent as another user", async ({ browser, second, tab }) => {
  browser.sleep(3600);
  await assert.rejects(tab.fetch(`${process.env.ISSUER}/me`), CHANGED);
  assert.equal(browser.sent("/me"), 0);
  assert.equal((await tab.account()).username, second.username);
});

afterAnotherLogin("a program that takes the access token does not get that of another user", async ({ browser, tab, other }) => {
  browser.sleep(3600);
  await assert.rejects(tab.accessToken(), CHANGED);
  assert.equal((await tab.restoreSession()).username, other.user.username);
  await tab.accessToken();
});

afterAnotherLogin("a logout leaves nobody logged in", async ({ browser, tab, other }) => {
  await tab.logOut();
  assert.equal(tab.user, null);
  assert.equal(browser.cookie, undefined);
  await assert.rejects(other.account(), { code: "invalid_grant" });
});

afterAnotherLogin("a logout everywhere ends no other session of the second user", async ({ browser, second, tab, other }) => {
  const elsewhere = browser.tab({ session: "memory" });
  await second.logIn(elsewhere);
  await assert.rejects(tab.logOut({ everywhere: true }), CHANGED);
  assert.equal(tab.user, null);
  assert.equal(browser.cookie, undefined);
  await assert.rejects(other.account(), { code: "invalid_grant" });
  assert.equal((await elsewhere.account()).username, second.username);
});

test("a user who logs in while the request of another is on its way does not repeat it", () =>
  inBrowser({}, async (browser) => {
    const [first, second] = [await person({ mfa: false }), await person({ mfa: false })];
    const [tab, other] = browser.open(2);
    await first.logIn(tab);
    await until(() => other.user);
    const [refused, slow] = [deferred(), deferred()];
    const before = (headers) => headers.set("authorization", "Bearer expired");
    const after = () => {
      refused.resolve();
      return slow.promise;
    };
    browser.faults.push(["/email", { before, after }]);
    const waiting = tab.removeEmail(first.password);
    await refused.promise;
    await second.logIn(other);
    await until(() => tab.user.username === second.username);
    slow.resolve();
    await assert.rejects(waiting, CHANGED);
    assert.equal(browser.sent("/email"), 1);
  }));

test("a code completes no step-up of the user before", () =>
  inBrowser({}, async (browser) => {
    const [first, second] = [await person(), await person({ mfa: false })];
    const [tab, other] = browser.open(2);
    await first.logIn(tab);
    await tab.stepUp();
    await second.logIn(other);
    await until(() => tab.user.username === second.username);
    await assert.rejects(tab.giveCode(first.code()), { code: "no_pending_token" });
    assert.equal(tab.user.username, second.username);
    assert.equal(browser.sent("/login-2fa"), 1);
  }));

test("nobody who is known is nobody who changes: a page that knows no user yet takes the one of the cookie", () =>
  inBrowser({}, async (browser) => {
    const someone = await person({ mfa: false });
    await someone.logIn(browser.tab());
    const late = browser.tab();
    assert.equal(late.user, undefined);
    assert.equal((await late.account()).username, someone.username);
  }));
