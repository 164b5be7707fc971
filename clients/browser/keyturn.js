/**
 * Keyturn in the browser: sign-up, login, second factor, and an access token that is refreshed before it expires.
 *
 * Tokens are kept in variables of this module and nowhere else: not in a URL, not in storage. In cookie mode the
 * refresh token and the device token are in cookies that no script can read, and the tabs of an origin share one
 * session; in memory mode the refresh token is a variable, and a session lasts as long as the page.
 *
 * A session is a chain of refresh tokens. A use replaces the token, in a cookie at most once in ten seconds. For ten
 * seconds a use of the replaced token gets its successor again; later it ends the session. So only one tab refreshes
 * at a time (Web Locks), the others take its access token (BroadcastChannel), and a lost answer is requested again.
 *
 * Only `invalid_grant` and `invalid_token` mean that the session has ended. A network failure, 429 and 5xx do not.
 */

const REFRESH_AHEAD = 30_000; // ms before the expiry of an access token at which it is refreshed
const GRACE = 10_000; // ms for which a repeated refresh gets the same successor
const ATTEMPT_TIMEOUT = 8_000; // ms of one refresh; a repetition still arrives within GRACE
const REPEAT_WITHIN = 9_000; // ms after which a refresh is not repeated
const REQUEST_TIMEOUT = 30_000; // ms of any other request to the issuer
const EXPORT_TIMEOUT = 300_000; // ms of an export, which may be large
const SAFE_REQUEST = { cache: "no-store", redirect: "error", referrerPolicy: "no-referrer" };
const TABS_ANSWER_WITHIN = 100; // ms that a tab waits for the access token of another tab

/** The error of every operation. Compare `code`; `message` is a sentence that may change. See keyturn.d.ts. */
export class KeyturnError extends Error {
  name = "KeyturnError";
  constructor(code, message = code, { status = 0, cause, ...details } = {}) {
    super(message, { cause });
    Object.assign(this, { code, status, ...details });
  }
}

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const loginRequired = () => new KeyturnError("login_required", "The user is not logged in.");
const isOver = ({ code }) => code === "login_required" || code === "invalid_grant";
const unlessOver = (error) => {
  if (!isOver(error)) throw error;
};
const failed = (cause) => new KeyturnError("network", "The service did not answer.", { cause });

/** Return what `WWW-Authenticate` demands (RFC 6750 section 3, RFC 9470 section 3). */
function challenge(response) {
  const header = response.headers.get("www-authenticate") ?? "";
  const parameter = (name) => new RegExp(`\\b${name}="?([^",]*)`).exec(header)?.[1];
  const maxAge = parameter("max_age");
  return { error: parameter("error"), acrValues: parameter("acr_values"), maxAge: maxAge && Number(maxAge) };
}

async function refusal(response) {
  const problem = await response.json().catch(() => undefined);
  const { detail, errors } = problem ?? {};
  const { error, acrValues, maxAge } = challenge(response);
  const { status } = response;
  const retryAfter = Number(response.headers.get("retry-after")) || undefined;
  const code = problem?.code ?? problem?.error ?? error ?? "http_error";
  const message = problem?.title ?? problem?.error_description ?? `The service answered ${status}.`;
  return new KeyturnError(code, message, { status, retryAfter, detail, errors, problem, acrValues, maxAge });
}

/** Return the body of an answer; reject with `KeyturnError` if the answer is a refusal or ends early. */
async function read(response, as = "json") {
  if (!response.ok) throw await refusal(response);
  if (response.status === 204) return undefined;
  return response[as]().catch((cause) => Promise.reject(failed(cause)));
}

/** Return the JWT claims of an access token that describe the user. They are for display: nothing is verified here. */
function userOf(token) {
  const binary = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
  const claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(binary, (byte) => byte.charCodeAt(0))));
  const { sub, username, sid, roles = [], acr, amr, auth_time } = claims;
  return { sub, username, sid, roles, acr, amr, auth_time };
}

/** Repeat a refresh whose answer may be lost: the session would end if the old token came back after `GRACE`. */
async function repeated(send) {
  const startedAt = Date.now();
  for (let pause = 500; ; pause *= 3) {
    try {
      return await send();
    } catch (error) {
      if (error.status !== 0 && error.status < 500) throw error;
      const wait = error.retryAfter ? error.retryAfter * 1000 : pause;
      if (pause > 1500 || Date.now() + wait - startedAt > REPEAT_WITHIN) throw error;
      await sleep(wait);
    }
  }
}

export function createKeyturn({ issuer, session, origins = [] }) {
  const usesCookie = session === "cookie";
  if (!usesCookie && session !== "memory") throw new TypeError('session must be "cookie" or "memory"');
  issuer = issuer.replace(/\/+$/, "");
  const issuerOrigin = new URL(issuer).origin;
  const trusted = new Set([issuerOrigin, ...origins.map((origin) => new URL(origin).origin)]);
  const shared = `keyturn ${issuer}`; // the name of the lock and of the channel
  const channel = usesCookie && globalThis.BroadcastChannel ? new BroadcastChannel(shared) : undefined;
  const listeners = new Set();

  let held; // the access token: {token, refreshAt, expiresAt, at}
  let refreshToken; // in memory mode only
  let pending; // the pending token: {token, username, sub}; `sub` if it belongs to a session
  let user; // undefined: not known yet; null: logged out
  let changes = 0; // how often a session was opened, refreshed or ended here or in another tab
  let changedAt = 0;
  let renewing; // the refresh that runs now
  let failure; // the last failed refresh of another tab: {at, error}
  let queue = Promise.resolve();
  let wake = () => {};

  function change(next, nextUser, at) {
    held = next;
    changedAt = at;
    changes += 1;
    wake();
    if (JSON.stringify(nextUser) === JSON.stringify(user)) return; // a refresh alone is not a change
    user = nextUser;
    for (const listener of listeners) queueMicrotask(() => listener(user)); // one that throws stops nothing else
  }

  function hold({ access_token: token, expires_in, refresh_token }) {
    const [at, lifetime] = [Date.now(), expires_in * 1000];
    const expiresAt = at + lifetime;
    if (refresh_token) refreshToken = refresh_token; // a step-up gives none: the session keeps the one it has
    change({ token, expiresAt, refreshAt: expiresAt - Math.min(REFRESH_AHEAD, lifetime / 5), at }, userOf(token), at);
    channel?.postMessage(held);
  }

  function end() {
    const at = Date.now();
    if (user) channel?.postMessage({ ended: user.sid, at });
    refreshToken = undefined;
    change(undefined, null, at);
  }

  if (channel) {
    channel.onmessage = ({ data }) => {
      if (data.ask) {
        if (held && Date.now() < held.refreshAt) channel.postMessage(held);
      } else if (data.failed) {
        failure = { at: data.at, error: new KeyturnError(data.failed.code, data.failed.message, data.failed) };
        wake();
      } else if (data.token) {
        if (data.at > changedAt && data.token !== held?.token) change(data, userOf(data.token), data.at);
      } else if (data.ended === user?.sid) change(undefined, null, data.at);
    };
    channel.unref?.(); // in Node only: an open channel would keep the process
  }

  /** Run operations that change the session one at a time: in this tab, and in all tabs that share a cookie. */
  function exclusively(operation) {
    const locks = usesCookie ? globalThis.navigator?.locks : undefined;
    const done = queue.then(() => (locks ? locks.request(shared, operation) : operation()));
    queue = done.catch(() => {});
    return done;
  }

  /** Send a request to the issuer and return the answer. `cookie`: the request may read or set cookies. */
  async function send(method, path, { json, body, token, cookie, accept, timeout = REQUEST_TIMEOUT } = {}) {
    const headers = { accept: accept ?? "application/json" };
    if (json) headers["content-type"] = "application/json";
    if (token) headers.authorization = `Bearer ${token}`;
    if (cookie && usesCookie) headers["keyturn-session"] = "cookie";
    try {
      return await fetch(issuer + path, {
        method,
        headers,
        body: json ? JSON.stringify(json) : body,
        credentials: cookie && usesCookie ? "include" : "omit",
        ...SAFE_REQUEST,
        signal: AbortSignal.timeout(timeout),
      });
    } catch (cause) {
      throw failed(cause);
    }
  }

  const current = () => {
    if (!held) throw loginRequired();
    return held.token;
  };

  /** Get a new access token, from another tab or from the issuer. Calls at the same time share one refresh. */
  function renew() {
    renewing ??= refresh().finally(() => (renewing = undefined));
    return renewing;
  }

  function refresh() {
    const before = changes;
    const askedAt = Date.now();
    const isSettled = () => {
      if (changes === before && failure?.at >= askedAt) throw failure.error;
      return changes !== before;
    };
    return exclusively(async () => {
      if (isSettled()) return current(); // another tab refreshed while this one waited for the lock
      if (channel) {
        const answered = new Promise((resolve) => (wake = resolve));
        channel.postMessage({ ask: true });
        await Promise.race([answered, sleep(TABS_ANSWER_WITHIN)]);
        if (isSettled()) return current();
      }
      if (!usesCookie && !refreshToken) {
        end();
        throw loginRequired();
      }
      const body = new URLSearchParams({ grant_type: "refresh_token", client_id: "keyturn" });
      if (refreshToken) body.set("refresh_token", refreshToken);
      const options = { body, cookie: true, timeout: ATTEMPT_TIMEOUT };
      try {
        const tokens = await repeated(async () => read(await send("POST", "/token", options)));
        if (changes === before) hold(tokens); // otherwise the user logged in or out meanwhile
      } catch (error) {
        if (changes !== before) return current();
        if (isOver(error)) end();
        else {
          const { code, message, status, retryAfter } = error;
          channel?.postMessage({ failed: { code, message, status, retryAfter }, at: Date.now() });
        }
        throw error;
      }
      return current();
    });
  }

  /** Return the token unless it is that of another user than `sub`: another tab may have logged somebody else in. */
  function tokenOf(sub, token) {
    if (sub && userOf(token).sub !== sub) throw new KeyturnError("user_changed", "Another user is logged in now.");
    return token;
  }

  async function accessToken() {
    if (held && Date.now() < held.refreshAt) return held.token;
    if (user === null) throw loginRequired();
    const sub = user?.sub;
    try {
      return tokenOf(sub, await renew());
    } catch (error) {
      if (error.code === "user_changed" || !held || Date.now() >= held.expiresAt) throw error;
      held.refreshAt = Date.now() + (error.retryAfter ?? 5) * 1000; // it is still valid: try again later
      return tokenOf(sub, held.token);
    }
  }

  /** Send a request with the access token; after `invalid_token` refresh and send it once more, as the same user. */
  async function withToken(attempt, isIssuer) {
    const token = await accessToken();
    let response = await attempt(token);
    let { error } = response.status === 401 ? challenge(response) : {};
    if (error === "invalid_token") {
      // A relying service that refuses a token less than GRACE old would refuse the next one too. After a refusal by
      // the issuer a refresh shows whether the session has ended.
      if (held?.token === token && !isIssuer && Date.now() - held.at < GRACE) return response;
      const next = held && held.token !== token ? held.token : await renew();
      response = await attempt(tokenOf(userOf(token).sub, next));
      ({ error } = response.status === 401 ? challenge(response) : {});
      if (error === "invalid_token" && isIssuer) end();
    }
    if (error === "insufficient_user_authentication") throw Object.assign(await refusal(response), { code: error });
    return response;
  }

  /** Send a request to the issuer and return its body; `auth` says which token it carries. */
  async function request(method, path, { auth = "session", as, ...options } = {}) {
    const attempt = (token) => send(method, path, { ...options, token });
    if (auth === "session") return read(await withToken(attempt, true), as);
    return read(await attempt(auth === "pending" ? pendingToken().token : undefined), as);
  }

  function pendingToken() {
    const isForAnother = pending?.sub && pending.sub !== user?.sub;
    if (!pending || isForAnother) throw new KeyturnError("no_pending_token", "Nothing waits for a code. Log in first.");
    return pending;
  }

  /** Keep the tokens of an answer, and return what else it has. */
  function take({ access_token, refresh_token, mfa_token, token_type, ...rest }, username, sub) {
    if (mfa_token) pending = { token: mfa_token, username, sub };
    if (access_token) {
      pending = undefined;
      hold({ access_token, refresh_token, expires_in: rest.expires_in });
    }
    return rest;
  }

  const enter = async (path, json) => take(await read(await send("POST", path, { json, cookie: true })), json.username);
  const open = (path, json) => exclusively(() => enter(path, json));
  /** Begin an operation that a code completes, for the present user: another may log in before the code is given. */
  const begin = async (path, json, sub = user?.sub) =>
    take(await request("POST", path, { json }), user?.username, sub ?? user?.sub);
  const anonymous = (path, json) => request("POST", path, { json, auth: "none" });
  const enrolment = (username) => `/qrcode/${encodeURIComponent(username ?? pendingToken().username)}`;

  return {
    get user() {
      return user;
    },
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close() {
      listeners.clear();
      channel?.close();
    },

    // Sessions
    signUp: (details) => anonymous("/signup", details).then((answer) => take(answer, answer.username)),
    logIn: (credentials) => open("/login", credentials),
    giveCode: (code) =>
      exclusively(async () => {
        const { token } = pendingToken();
        try {
          return await enter("/login-2fa", { ...code, mfa_token: token });
        } catch (error) {
          if (error.code === "invalid_token" && pending?.token === token) pending = undefined;
          throw error;
        }
      }),
    stepUp: () => begin("/step-up"),
    restoreSession: async () => {
      if (!held || Date.now() >= held.refreshAt) await renew().catch(unlessOver);
      return user;
    },
    logOut: async ({ everywhere = false } = {}) => {
      const leave = (query = "") => request("POST", `/logout${query}`, { cookie: true });
      let changed;
      try {
        await leave(everywhere ? "?everywhere=true" : "").catch((error) => {
          if (error.code !== "user_changed") throw error;
          changed = error;
          return leave(); // nobody stays logged in: end the session that the browser has now, and no other of that user
        });
      } catch (error) {
        if (error.code !== "invalid_token") unlessOver(error);
      }
      pending = undefined;
      end();
      if (changed && everywhere) throw changed; // the other sessions of the first user go on
    },
    accessToken, request,
    fetch: async (input, init) => {
      const given = new Request(input, init);
      const { origin } = new URL(given.url);
      const attempt = async (token) => {
        const copy = given.clone(); // the body can be sent again
        if (token) copy.headers.set("authorization", `Bearer ${token}`);
        try {
          return await fetch(copy);
        } catch (cause) {
          throw given.signal.aborted ? cause : failed(cause);
        }
      };
      if (!trusted.has(origin) || given.headers.has("authorization")) return attempt();
      return withToken(attempt, origin === issuerOrigin);
    },

    // The account
    account: () => request("GET", "/me"),
    changeLocale: (locale) => request("PATCH", "/me", { json: { locale } }),
    events: async () => (await request("GET", "/events")).events,
    sessions: async () => (await request("GET", "/sessions")).sessions,
    endSession: async (sid) => {
      await request("DELETE", `/sessions/${encodeURIComponent(sid)}`);
      if (sid === user?.sid) end();
    },
    changePassword: (passwords) => request("POST", "/password", { json: passwords }),
    requestPasswordReset: (username) => anonymous("/password-reset", { username }),
    resetPassword: (reset) => anonymous("/password-reset/confirm", reset),
    changeEmail: (change) => request("POST", "/email", { json: change }),
    confirmEmail: (token) => anonymous("/email/confirm", { token }),
    cancelEmail: (token) => anonymous("/email/cancel", { token }),
    removeEmail: (password) => request("DELETE", "/email", password === undefined ? {} : { json: { password } }),
    exportAccount: () => request("GET", "/me/export", { as: "blob", timeout: EXPORT_TIMEOUT }),
    deleteAccount: async (password) => {
      const answer = await request("DELETE", "/me", { json: { password } });
      end();
      return answer;
    },
    restoreAccount: (credentials) => open("/me/restore", credentials),

    // The second factor
    factors: async () => (await request("GET", "/factors")).factors,
    addFactor: (details) => begin("/enable-mfa", details),
    renameFactor: (id, name) => request("PATCH", `/factors/${encodeURIComponent(id)}`, { json: { name } }),
    removeFactor: (id) => request("DELETE", `/factors/${encodeURIComponent(id)}`),
    qrCode: async ({ type = "image/svg+xml", username } = {}) =>
      request("GET", enrolment(username), { auth: "pending", as: "blob", accept: type }),
    enrolmentSecret: async ({ username } = {}) => request("GET", `${enrolment(username)}/secret`, { auth: "pending" }),
    disableMfa: async (proofs) => {
      const answer = await anonymous("/disable-mfa", proofs);
      if (held) await renew().catch(() => {}); // every session of that user has ended, maybe this one
      return answer;
    },
    newRecoveryCodes: async () => (await request("POST", "/recovery-codes")).recovery_codes,
    requestRecovery: (credentials) => anonymous("/recovery", credentials),
    cancelRecovery: () => request("DELETE", "/recovery"),
  };
}
