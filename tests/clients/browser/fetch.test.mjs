/** `fetch`: which requests carry the access token, and what follows a 401. */

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { ISSUER, inBrowser, ORIGIN, person } from "./doubles.mjs";

let answer; // what the relying service does next: (token, body) => [status, challenge]
let seen;
let service;

const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const token = request.headers.authorization?.replace("Bearer ", "");
  const headers = {
    "access-control-allow-origin": ORIGIN,
    "access-control-allow-headers": "authorization, content-type",
  };
  if (request.method === "OPTIONS") return response.writeHead(200, headers).end();
  seen.push({ token, body: Buffer.concat(chunks).toString() });
  const [status, challenge] = answer(token);
  if (challenge) headers["www-authenticate"] = challenge;
  return response.writeHead(status, headers).end('{"code": "E42"}'); // the service has codes of its own
});

before(async () => {
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  service = `http://127.0.0.1:${server.address().port}`;
});
after(() => server.close());

function loggedIn(name, story) {
  test(name, () =>
    inBrowser({}, async (browser) => {
      const someone = await person();
      const tab = browser.tab({ origins: [`${service}/`] });
      await someone.logIn(tab);
      [seen, answer] = [[], () => [200]];
      await story({ browser, someone, tab });
    }));
}

loggedIn("the token goes to the issuer and to the named origins, and nowhere else", async ({ browser, tab }) => {
  const token = await tab.accessToken();
  await tab.fetch(`${service}/orders?page=2`);
  await tab.fetch(new URL(`${service}/orders`), { headers: { authorization: "Bearer own" } });
  assert.deepEqual(seen.map((request) => request.token), [token, "own"]);
  assert.equal((await tab.fetch(`${ISSUER}/me`)).status, 200);
  const careful = browser.tab();
  await careful.restoreSession();
  await careful.fetch(service);
  assert.equal(seen[2].token, undefined);
});

loggedIn("a request that is refused with invalid_token is sent once more, with its body", async ({ browser, tab }) => {
  const first = await tab.accessToken();
  browser.sleep(30);
  answer = (token) => (token === first ? [401, 'Bearer realm="shop", error="invalid_token"'] : [200]);
  const request = new Request(`${service}/orders`, { method: "POST", body: '{"item": 7}' });
  assert.equal((await tab.fetch(request)).status, 200);
  assert.deepEqual(seen.map(({ body }) => body), ['{"item": 7}', '{"item": 7}']);
  assert.notEqual(seen[1].token, first);
  assert.equal(browser.sent("/token"), 1);
});

loggedIn("a service that refuses every token causes one refresh in ten seconds", async ({ browser, tab, someone }) => {
  answer = () => [401, 'Bearer error="invalid_token"'];
  browser.sleep(30);
  for (let number = 0; number < 5; number += 1) assert.equal((await tab.fetch(service)).status, 401);
  assert.equal(browser.sent("/token"), 1);
  assert.equal(tab.user.username, someone.username);
});

loggedIn("a 401 without a challenge is an answer like another", async ({ browser, tab }) => {
  answer = () => [401];
  assert.equal((await tab.fetch(service)).status, 401);
  assert.equal(seen.length + browser.sent("/token"), 1);
});

loggedIn("a service that demands a recent proof gets it by a step-up", async ({ tab, someone }) => {
  const challenge = 'Bearer error="insufficient_user_authentication", acr_values="aal2", max_age="300"';
  const first = await tab.accessToken();
  answer = (token) => (token === first ? [401, challenge] : [200]);
  await assert.rejects(tab.fetch(`${service}/payments`), ({ code, status, acrValues, maxAge }) => {
    assert.deepEqual([code, status, acrValues, maxAge], ["insufficient_user_authentication", 401, "aal2", 300]);
    return true;
  });
  assert.deepEqual((await tab.stepUp()).methods, ["totp", "recovery_code"]);
  await tab.giveCode(someone.code());
  assert.equal((await tab.fetch(`${service}/payments`)).status, 200);
});

loggedIn("no network is a KeyturnError, and an aborted request is an AbortError", async ({ browser, tab }) => {
  browser.faults.push(["/orders", "down"]);
  await assert.rejects(tab.fetch(`${service}/orders`), { name: "KeyturnError", code: "network" });
  await assert.rejects(tab.fetch(`${service}/orders`, { signal: AbortSignal.abort() }), { name: "AbortError" });
});

loggedIn("after a logout requests that need the token are not sent", async ({ tab }) => {
  await tab.logOut();
  await assert.rejects(tab.fetch(service), { code: "login_required" });
  assert.equal(seen.length, 0);
});
