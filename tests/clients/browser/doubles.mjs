/**
 * A browser for keyturn.js in Node: a cookie jar, the rules of cross-origin requests, Web Locks, and faults.
 *
 * Each tab is a `createKeyturn`. The requests go to a running Keyturn. `BroadcastChannel` is Node's own.
 */

import { createHmac } from "node:crypto";
import { createKeyturn } from "../../../clients/browser/keyturn.js";

export const ISSUER = process.env.ISSUER;
export const ORIGIN = process.env.ORIGIN;
export const PASSWORD = "correct horse battery staple";
const COOKIE = "__Host-keyturn-refresh";
const DEVICE_COOKIE = "__Host-keyturn-device";
const EXPOSED = new Set(["content-type", "cache-control", "retry-after", "www-authenticate", "x-request-id"]);
const SAFELISTED = new Set(["accept", "accept-language", "content-language"]);
const nodes = { fetch: globalThis.fetch, now: Date.now, BroadcastChannel: globalThis.BroadcastChannel };

/** An exclusive lock for each name, first come, first served. */
class Locks {
  #tails = new Map();

  request(name, operation) {
    const done = (this.#tails.get(name) ?? Promise.resolve()).then(() => operation({ name }));
    this.#tails.set(name, done.catch(() => {}));
    return done;
  }
}

export class Browser {
  tabs = [];
  requests = []; // {method, credentials, path, url, headers} of every request that was sent
  faults = []; // [path, how]: the next request for this path meets the fault: see #fetch
  #jar = new Map();
  #late = 0;

  constructor({ locks = true, channel = true, origin = ORIGIN } = {}) {
    this.origin = origin;
    globalThis.fetch = (input, init) => this.#fetch(new Request(input, init));
    const navigator = locks ? { locks: new Locks() } : {};
    Object.defineProperty(globalThis, "navigator", { value: navigator, configurable: true });
    globalThis.BroadcastChannel = channel ? nodes.BroadcastChannel : undefined;
    Date.now = () => nodes.now() + this.#late;
    for (const name of ["localStorage", "sessionStorage", "history", "indexedDB", "document", "location"]) {
      const get = () => {
        throw new Error(`${name} is used`);
      };
      Object.defineProperty(globalThis, name, { get, configurable: true });
    }
  }

  /** Open a tab. */
  tab(options = {}) {
    const tab = createKeyturn({ issuer: ISSUER, session: "cookie", ...options });
    this.tabs.push(tab);
    return tab;
  }

  open(number, options) {
    return Array.from({ length: number }, () => this.tab(options));
  }

  close() {
    for (const tab of this.tabs) tab.close();
    globalThis.fetch = nodes.fetch;
    Date.now = nodes.now;
  }

  /** Let all tabs sleep: the clock goes on, and no program runs. */
  sleep(seconds) {
    this.#late += seconds * 1000;
  }

  get cookie() {
    return this.#jar.get(COOKIE);
  }

  get device() {
    return this.#jar.get(DEVICE_COOKIE);
  }

  /** How often the session of the cookie was refreshed. */
  get generation() {
    return Buffer.from(this.cookie.slice("ktr_".length), "base64url").readUInt32BE(16);
  }

  sent(path) {
    return this.requests.filter((request) => request.path === path).length;
  }

  /**
   * Send a request. A fault is `down` (it is not sent), `lost` (the answer is), an answer in place of the service's, or
   * `{before, after}`: what happens to its headers before it is sent, and before the program gets the answer.
   */
  async #fetch(request) {
    const { pathname, origin, href } = new URL(request.url);
    const isForeign = origin !== this.origin;
    const withCookies = request.credentials === "include" || (request.credentials === "same-origin" && !isForeign);
    const headers = new Headers(request.headers);
    const { method, credentials } = request;
    this.requests.push({ method, credentials, path: pathname, url: href, headers: new Headers(headers) });
    const found = this.faults.findIndex(([path]) => path === pathname);
    const how = found < 0 ? undefined : this.faults.splice(found, 1)[0][1];
    if (how === "down") throw new TypeError("fetch failed");
    if (how instanceof Response) return how;
    if (isForeign) await this.#preflight(request, origin);
    if (isForeign || request.method !== "GET") headers.set("origin", this.origin);
    const cookies = [...this.#jar].map((pair) => pair.join("="));
    if (withCookies && cookies.length) headers.set("cookie", cookies.join("; "));
    how?.before?.(headers);
    const body = request.body ? await request.arrayBuffer() : undefined;
    const init = { method: request.method, headers, body, redirect: request.redirect, signal: request.signal };
    const answer = await nodes.fetch(href, init);
    if (how === "lost") throw new TypeError("fetch failed");
    if (withCookies) for (const line of answer.headers.getSetCookie()) this.#store(line);
    await how?.after?.();
    if (!isForeign) return answer;
    if (answer.headers.get("access-control-allow-origin") !== this.origin) throw new TypeError("CORS: origin");
    const allowsCookies = answer.headers.get("access-control-allow-credentials") === "true";
    if (request.credentials === "include" && !allowsCookies) throw new TypeError("CORS: credentials");
    const visible = [...answer.headers].filter(([name]) => EXPOSED.has(name));
    const content = answer.status === 204 ? null : await answer.arrayBuffer();
    return new Response(content, { status: answer.status, headers: visible });
  }

  async #preflight(request, origin) {
    const names = [...request.headers.keys()].filter((name) => !SAFELISTED.has(name)).sort().join(",");
    if (!names && ["GET", "POST"].includes(request.method)) return;
    const asked = { "access-control-request-method": request.method, origin: this.origin };
    if (names) asked["access-control-request-headers"] = names;
    const answer = await nodes.fetch(origin + new URL(request.url).pathname, { method: "OPTIONS", headers: asked });
    if (!answer.ok) throw new TypeError(`CORS: preflight of ${request.method} with ${names}: ${await answer.text()}`);
  }

  #store(line) {
    const [pair, ...attributes] = line.split("; ");
    const [name, value] = pair.split("=");
    const has = (attribute) => attributes.includes(attribute);
    if (!["Path=/", "Secure", "HttpOnly", "SameSite=Strict"].every(has)) throw new Error(`the cookie is ${line}`);
    if (has("Max-Age=0")) this.#jar.delete(name);
    else this.#jar.set(name, value);
  }
}

/** Run a story in a browser that is closed afterwards. */
export async function inBrowser(options, story) {
  const browser = new Browser(options);
  try {
    await story(browser);
  } finally {
    browser.close();
  }
}

/** Wait until messages between tabs have arrived. */
export async function until(holds) {
  for (let round = 0; round < 300; round += 1) {
    if (holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`it did not become true: ${holds}`);
}

export function deferred() {
  const made = {};
  made.promise = new Promise((resolve) => (made.resolve = resolve));
  return made;
}

let people = 0;

/** Sign a user up, with a confirmed second factor unless `mfa` is false, by another browser; return what they know. */
export async function person({ mfa = true, ...details } = {}) {
  const username = `user${(people += 1)}-${process.pid}`;
  const post = async (path, json) => {
    const headers = { "content-type": "application/json" };
    const answer = await nodes.fetch(ISSUER + path, { method: "POST", headers, body: JSON.stringify(json) });
    if (!answer.ok) throw new Error(await answer.text());
    return answer.json();
  };
  const given = { username, password: PASSWORD };
  const signedUp = await post("/signup", { ...given, ...details, enable_mfa: mfa });
  if (!mfa) return { ...given, logIn: (tab) => tab.logIn(given) };
  const secret = new URL(signedUp.provisioning_uri).searchParams.get("secret");
  const first = await post("/login-2fa", { mfa_token: signedUp.mfa_token, otp: totp(secret, -1) });
  const codes = first.recovery_codes;
  const code = () => ({ recovery_code: codes.pop() });
  const logIn = async (tab) => {
    await tab.logIn(given);
    return tab.giveCode(code());
  };
  return { ...given, secret, code, logIn };
}

/** Return a verification code (RFC 6238), of the time step that is `steps` from the current one. */
export function totp(secret, steps = 0) {
  const base32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  const bits = [...secret].map((letter) => base32.indexOf(letter).toString(2).padStart(5, "0"));
  const key = Buffer.from(bits.join("").match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(nodes.now() / 30_000) + steps));
  const mac = createHmac("sha1", key).update(counter).digest();
  const number = (mac.readUInt32BE(mac.at(-1) & 15) & 0x7fffffff) % 1_000_000;
  return String(number).padStart(6, "0");
}

export const problem = (status, code, headers = {}) =>
  new Response(JSON.stringify({ code, title: code, status }), {
    status,
    headers: { "content-type": "application/problem+json", ...headers },
  });

export const unavailable = () =>
  new Response(JSON.stringify({ error: "temporarily_unavailable" }), { status: 503, headers: { "retry-after": "1" } });
