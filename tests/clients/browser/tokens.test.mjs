/** Where tokens are, when they are refreshed, and what ends a session. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { createKeyturn, KeyturnError } from "../../../clients/browser/keyturn.js";
import { ISSUER, inBrowser, person, problem, unavailable } from "./doubles.mjs";

const memory = { session: "memory" };

/** Run a story with a user who is logged in. */
function loggedIn(name, story, session = "cookie") {
  test(name, () =>
    inBrowser({}, async (browser) => {
      const someone = await person();
      const tab = browser.tab({ session });
      await someone.logIn(tab);
      await story({ browser, someone, tab });
    }));
}

function inBothModes(name, story) {
  for (const session of ["cookie", "memory"]) loggedIn(`${name} (${session})`, story, session);
}

inBothModes("no token is in a URL, in storage or in an answer", async ({ browser, tab }) => {
  await tab.restoreSession();
  browser.sleep(3600);
  await tab.accessToken();
  const answers = [await tab.stepUp(), await tab.account(), tab.user, await tab.sessions()];
  for (const { url } of browser.requests) assert.doesNotMatch(url, /eyJ|ktr_|[?#]/);
  assert.doesNotMatch(JSON.stringify(answers), /eyJ|ktr_|token/);
});

test("in cookie mode the program never gets a refresh token, and only requests for the session carry the cookie", () =>
  inBrowser({}, async (browser) => {
    const tab = browser.tab();
    await (await person()).logIn(tab);
    await tab.account();
    browser.sleep(3600);
    await tab.accessToken();
    await tab.logOut();
    const marked = browser.requests.filter(({ headers }) => headers.has("keyturn-session")).map(({ path }) => path);
    assert.deepEqual(marked, ["/login", "/login-2fa", "/token", "/logout"]);
    const carrying = browser.requests.filter(({ credentials }) => credentials !== "omit").map(({ path }) => path);
    assert.deepEqual(carrying, marked);
    assert.equal(browser.cookie, undefined);
  }));

test("in memory mode there is no cookie, and another tab has no session", () =>
  inBrowser({}, async (browser) => {
    const tab = browser.tab(memory);
    await (await person()).logIn(tab);
    assert.equal(browser.cookie, undefined);
    const other = browser.tab(memory);
    assert.equal(await other.restoreSession(), null);
    await assert.rejects(other.accessToken(), { code: "login_required", status: 0 });
    assert.equal(browser.sent("/token"), 0);
  }));

test("after a reload the cookie restores the session", () =>
  inBrowser({}, async (browser) => {
    const before = browser.tab();
    const someone = await person();
    await someone.logIn(before);
    before.close();
    const after = browser.tab();
    assert.equal(after.user, undefined);
    assert.equal((await after.restoreSession()).username, someone.username);
    assert.equal(after.user.acr, "aal2");
  }));

inBothModes("calls at the same time share one refresh, some time before the expiry", async ({ browser, tab }) => {
  const first = await tab.accessToken();
  browser.sleep(565);
  assert.equal(await tab.accessToken(), first);
  browser.sleep(10);
  const tokens = await Promise.all(Array.from({ length: 20 }, () => tab.accessToken()));
  assert.equal(new Set(tokens).size, 1);
  assert.notEqual(tokens[0], first);
  assert.equal(browser.sent("/token"), 1);
});

inBothModes("an answer that was lost is requested again at once, and the session goes on", async ({ browser, tab }) => {
  browser.sleep(3600);
  browser.faults.push(["/token", "lost"], ["/token", "lost"]);
  await tab.accessToken();
  assert.equal(browser.sent("/token"), 3);
  browser.sleep(3600);
  await tab.accessToken();
});

loggedIn("no network, 429, 502 and 503 are not a logout", async ({ browser, someone, tab }) => {
  browser.sleep(3600);
  const page = () => new Response("<h1>Bad gateway</h1>", { status: 502 });
  const outages = [
    ["network", 0, undefined, () => "down"],
    ["http_error", 502, undefined, page],
    ["temporarily_unavailable", 503, 1, unavailable],
    ["too_many_attempts", 429, 7, () => problem(429, "too_many_attempts", { "retry-after": "7" })],
  ];
  for (const [code, status, retryAfter, fault] of outages) {
    browser.faults = Array.from({ length: 3 }, () => ["/token", fault()]);
    await assert.rejects(tab.accessToken(), (error) => {
      assert.ok(error instanceof KeyturnError);
      assert.deepEqual([error.code, error.status, error.retryAfter], [code, status, retryAfter]);
      return true;
    });
    assert.equal(tab.user.username, someone.username);
  }
  browser.faults = [];
  await tab.accessToken();
});

loggedIn("while a refresh fails, a token that is still valid is used", async ({ browser, tab }) => {
  const first = await tab.accessToken();
  browser.sleep(575);
  browser.faults.push(...Array.from({ length: 3 }, () => ["/token", "down"]));
  assert.equal(await tab.accessToken(), first);
  assert.equal(await tab.accessToken(), first);
  assert.equal(browser.sent("/token"), 3);
  browser.sleep(6);
  assert.notEqual(await tab.accessToken(), first);
});

inBothModes("the end of the session elsewhere is a logout", async ({ browser, someone, tab }) => {
  const seen = [];
  tab.onChange((user) => seen.push(user));
  const elsewhere = browser.tab(memory);
  await someone.logIn(elsewhere);
  await elsewhere.logOut({ everywhere: true });
  await assert.rejects(tab.account(), { code: "invalid_grant", status: 400 });
  await assert.rejects(tab.account(), { code: "login_required" });
  assert.deepEqual(seen, [null]);
  assert.equal(await tab.restoreSession(), null);
});

loggedIn("a logout that the service did not get leaves the user logged in", async ({ browser, someone, tab }) => {
  browser.faults.push(["/logout", "down"]);
  await assert.rejects(tab.logOut(), { code: "network" });
  assert.equal((await tab.account()).username, someone.username);
  await tab.logOut();
  await tab.logOut();
  assert.equal(tab.user, null);
});

inBothModes("listeners hear of logins, step-ups and logouts, not of refreshes", async ({ browser, someone, tab }) => {
  const seen = [];
  const stop = tab.onChange((user) => seen.push(user && user.auth_time));
  const known = tab.user;
  browser.sleep(3600);
  await tab.accessToken();
  assert.equal(tab.user, known);
  await new Promise((resolve) => setTimeout(resolve, 1100)); // auth_time is in seconds
  await tab.stepUp();
  await tab.giveCode(someone.code());
  assert.equal(seen.length, 1);
  assert.ok(seen[0] > known.auth_time);
  stop();
  await tab.logOut();
  assert.equal(seen.length, 1);
});

test("a wrong password, a wrong code and a pending token that is used up have their codes", () =>
  inBrowser({}, async (browser) => {
    const someone = await person();
    const tab = browser.tab();
    await assert.rejects(tab.giveCode({ otp: "123456" }), { code: "no_pending_token" });
    const wrong = { username: someone.username, password: "wrong" };
    await assert.rejects(tab.logIn(wrong), { code: "invalid_credentials", status: 401 });
    const answer = await tab.logIn({ username: someone.username, password: someone.password });
    assert.deepEqual([answer.mfa_required, answer.methods], [true, ["totp", "recovery_code"]]);
    await assert.rejects(tab.giveCode({ recovery_code: "AAAA-BBBB-CCCC-DDDD" }), { code: "invalid_code" });
    const short = ({ code, errors }) => code === "invalid_request" && errors.length === 1;
    await assert.rejects(tab.giveCode({ otp: "12345" }), short);
    await tab.giveCode(someone.code());
    await assert.rejects(tab.giveCode(someone.code()), { code: "no_pending_token" });
    assert.equal(tab.user.username, someone.username);
  }));

test("an origin that the operator did not name gets no answer", () =>
  inBrowser({ origin: "https://elsewhere.example" }, async (browser) => {
    await assert.rejects(browser.tab().restoreSession(), { code: "network" });
  }));

test("the mode must be given, and a slash after the issuer does no harm", () => {
  assert.throws(() => createKeyturn({ issuer: ISSUER }), TypeError);
  assert.throws(() => createKeyturn({ issuer: "no URL", ...memory }), TypeError);
  return inBrowser({}, async (browser) => {
    const someone = await person({ mfa: false });
    await someone.logIn(browser.tab({ issuer: `${ISSUER}/`, ...memory }));
  });
});
