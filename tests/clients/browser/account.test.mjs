/** Every call of the account works against the service. */

import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { inBrowser, PASSWORD, person, totp, until } from "./doubles.mjs";

const NEW_PASSWORD = "another horse battery staple";

/** Return the token of the newest link to an address. Messages are files; `=` at the end of a line joins it. */
async function link(address, kind) {
  const read = () =>
    (existsSync(process.env.MAIL) ? readdirSync(process.env.MAIL) : [])
      .filter((name) => name.endsWith(".eml"))
      .sort()
      .map((name) => readFileSync(`${process.env.MAIL}/${name}`, "utf8").replace(/=\r?\n/g, "").replaceAll("=3D", "="))
      .filter((text) => text.includes(`To: ${address}`) && text.includes(`#${kind}=`));
  await until(() => read().length > 0);
  return new RegExp(`#${kind}=(\\S+)`).exec(read().at(-1))[1];
}

function loggedIn(name, story, details = {}) {
  test(name, () =>
    inBrowser({}, async (browser) => {
      const someone = await person(details);
      const tab = browser.tab();
      await someone.logIn(tab);
      await story({ browser, someone, tab, email: `${someone.username}@example.com` });
    }));
}

test("sign up with a second factor: QR code, secret, first code, recovery codes", () =>
  inBrowser({}, async (browser) => {
    const tab = browser.tab();
    const username = `new-${process.pid}`;
    const signedUp = await tab.signUp({ username, password: PASSWORD, enable_mfa: true, locale: "de" });
    const svg = await tab.qrCode();
    assert.match(await svg.text(), /<svg/);
    assert.equal((await tab.qrCode({ type: "image/png" })).type, "image/png");
    const { secret, provisioning_uri } = await tab.enrolmentSecret();
    assert.equal(provisioning_uri, signedUp.provisioning_uri);
    const { recovery_codes } = await tab.giveCode({ otp: totp(secret) });
    assert.equal(recovery_codes.length, 10);
    assert.equal(tab.user.acr, "aal2");
    assert.equal((await tab.account()).locale, "de");
    await assert.rejects(tab.signUp({ username, password: PASSWORD }), { code: "username_taken", status: 409 });
    const weak = { code: "weak_password", detail: "The password needs at least 15 characters." };
    await assert.rejects(tab.signUp({ username: `${username}-2`, password: "short" }), weak);
  }));

loggedIn("sessions and events", async ({ browser, someone, tab }) => {
  const elsewhere = browser.tab({ session: "memory" });
  await someone.logIn(elsewhere);
  const sessions = await tab.sessions();
  assert.equal(sessions.filter(({ current }) => current).length, 1);
  await tab.endSession(elsewhere.user.sid);
  await assert.rejects(elsewhere.account(), { code: "invalid_grant" });
  assert.ok((await tab.events()).some(({ event }) => event === "session.ended"));
  await assert.rejects(tab.endSession("pZ9yKq2mX0d4Wc1bR7tLhA"), { code: "not_found", status: 404 });
  await tab.endSession(tab.user.sid);
  assert.equal(tab.user, null);
});

loggedIn("the language of messages", async ({ tab }) => {
  assert.equal((await tab.changeLocale("pt-BR")).locale, "pt-BR");
  await assert.rejects(tab.changeLocale("no language"), { code: "invalid_request" });
  assert.equal((await tab.account()).locale, "pt-BR");
  assert.equal((await tab.changeLocale(null)).locale, null);
});

loggedIn("authenticators, recovery codes, and the second factor off", async ({ someone, tab }) => {
  const { provisioning_uri } = await tab.addFactor({ password: someone.password, name: "Tablet" });
  assert.match((await tab.enrolmentSecret()).provisioning_uri, /Tablet/);
  await tab.giveCode({ otp: totp(new URL(provisioning_uri).searchParams.get("secret")) });
  const factors = await tab.factors(); // both may have been added in the same second, and are then in no order
  const [first, second] = ["Authenticator", "Tablet"].map((name) => factors.find((factor) => factor.name === name));
  assert.deepEqual(await tab.renameFactor(second.id, "Old tablet"), { ...second, name: "Old tablet" });
  await assert.rejects(tab.renameFactor(second.id, ""), { code: "invalid_request", status: 422 });
  await tab.removeFactor(second.id);
  await assert.rejects(tab.renameFactor(second.id, "Tablet"), { code: "not_found", status: 404 });
  await assert.rejects(tab.removeFactor(first.id), { code: "last_factor" });
  assert.equal((await tab.newRecoveryCodes()).length, 10);
  await tab.cancelRecovery();
  await assert.rejects(tab.requestRecovery({ username: someone.username, password: PASSWORD }), { code: "not_found" });
  await tab.disableMfa({ username: someone.username, password: PASSWORD, token: totp(someone.secret) });
  assert.equal(tab.user, null);
});

loggedIn(
  "a user without a second factor enrols, which opens a new session",
  async ({ someone, tab }) => {
    assert.equal(tab.user.acr, "aal1");
    const { sid } = tab.user;
    const { provisioning_uri } = await tab.addFactor({ password: someone.password });
    const { recovery_codes } = await tab.giveCode({ otp: totp(new URL(provisioning_uri).searchParams.get("secret")) });
    assert.equal(recovery_codes.length, 10);
    assert.notEqual(tab.user.sid, sid);
    assert.equal((await tab.account()).mfa_confirmed, true);
  },
  { mfa: false },
);

loggedIn("passwords: change, forget, reset", async ({ someone, tab, email }) => {
  await tab.changeEmail({ email, password: PASSWORD });
  await tab.confirmEmail(await link(email, "confirm-email"));
  const wrong = { current_password: "wrong", new_password: NEW_PASSWORD };
  await assert.rejects(tab.changePassword(wrong), { code: "invalid_credentials" });
  await tab.changePassword({ current_password: PASSWORD, new_password: NEW_PASSWORD });
  assert.equal((await tab.account()).email, email);
  await tab.requestPasswordReset(email);
  const token = await link(email, "reset-password");
  await tab.resetPassword({ token, new_password: PASSWORD });
  await assert.rejects(tab.resetPassword({ token, new_password: PASSWORD }), { code: "invalid_token" });
  await assert.rejects(tab.account(), { code: "invalid_grant" });
  await tab.logIn({ username: email, password: PASSWORD });
  await tab.giveCode(someone.code());
  assert.equal(tab.user.username, someone.username);
});

loggedIn("e-mail addresses: cancel a change, send the link again, remove", async ({ someone, tab, email }) => {
  await tab.changeEmail({ email, password: PASSWORD });
  await tab.changeEmail({ email, password: PASSWORD });
  await tab.confirmEmail(await link(email, "confirm-email"));
  await tab.changeEmail({ email: `other-${email}`, password: PASSWORD });
  assert.equal((await tab.account()).new_email, `other-${email}`);
  await tab.cancelEmail(await link(email, "cancel-email"));
  assert.equal((await tab.account()).new_email, null);
  await tab.removeEmail();
  assert.equal((await tab.account()).email, null);
  assert.equal(someone.username, tab.user.username);
});

loggedIn(
  "a user without a second factor removes the address with the password",
  async ({ tab, email }) => {
    await tab.changeEmail({ email, password: PASSWORD });
    await assert.rejects(tab.removeEmail("wrong"), { code: "invalid_credentials" });
    await tab.removeEmail(PASSWORD);
    assert.equal((await tab.account()).new_email, null);
  },
  { mfa: false },
);

loggedIn("export, deletion, and the way back", async ({ someone, tab }) => {
  const exported = JSON.parse(await (await tab.exportAccount()).text());
  assert.equal(exported.account.username, someone.username);
  const { deleted_at } = await tab.deleteAccount(PASSWORD);
  assert.ok(deleted_at > Date.now() / 1000);
  assert.equal(tab.user, null);
  await assert.rejects(tab.logIn({ username: someone.username, password: PASSWORD }), { code: "invalid_credentials" });
  const answer = await tab.restoreAccount({ username: someone.username, password: PASSWORD });
  assert.equal(answer.mfa_required, true);
  await tab.giveCode(someone.code());
  assert.equal(tab.user.username, someone.username);
});

loggedIn("in cookie mode a known device is a cookie, which outlives a logout", async ({ browser, someone, tab }) => {
  const credentials = { username: someone.username, password: PASSWORD };
  await tab.logOut();
  assert.equal((await tab.logIn({ ...credentials, remember_device: true })).mfa_required, true);
  const logged = await tab.giveCode({ ...someone.code(), remember_device: true });
  assert.equal("device_token" in logged, false);
  const { device } = browser;
  assert.match(device, /^ktd_/);
  await tab.logOut();
  assert.equal(browser.cookie, undefined);
  const answer = await tab.logIn(credentials);
  assert.deepEqual([answer.mfa_required, browser.device], [false, device]);
});

loggedIn("in memory mode a device token is in the answer, and the module does not keep it", async ({ browser, someone }) => {
  const tab = browser.tab({ session: "memory" });
  const credentials = { username: someone.username, password: PASSWORD };
  await tab.logIn(credentials);
  const logged = await tab.giveCode({ ...someone.code(), remember_device: true });
  assert.match(logged.device_token, /^ktd_/);
  assert.equal(browser.device, undefined);
  assert.equal((await tab.logIn(credentials)).mfa_required, true);
  assert.equal((await tab.logIn({ ...credentials, device_token: logged.device_token })).mfa_required, false);
});

loggedIn("any other endpoint can be requested", async ({ tab }) => {
  const metadata = await tab.request("GET", "/.well-known/oauth-authorization-server", { auth: "none" });
  assert.equal(metadata.issuer, process.env.ISSUER);
  await assert.rejects(tab.request("GET", "/admin/users"), { code: "forbidden", status: 403 });
});
