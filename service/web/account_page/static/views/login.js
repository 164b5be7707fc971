// Logging in: the password, then what the account asks for. Restoring a deleted account is a login, too.

import { codeStep } from "../code-step.js";
import { config } from "../config.js";
import { h } from "../dom.js";
import { enrolment } from "../enrolment.js";
import { check, form, passwordField, usernameField } from "../forms.js";
import { tx } from "../i18n.js";
import { card, heading } from "../layout.js";
import { recoveryCodes } from "../recovery-codes.js";
import { target } from "../return-to.js";
import { go, goOn, say } from "../router.js";
import { giveCode, keyturn, logIn } from "../session.js";
import * as storage from "../storage.js";

let pending = null; // the login that waits for a second factor
let codes = null; // the recovery codes that the user has not saved yet
let wantsRemembering = false;
let username = storage.read("username") ?? ""; // what the user typed, for the way back and for the next visit

/** Keep the username for this tab; with `keeps` for the next visit, too. */
export function rememberUsername(name, { keeps = false } = {}) {
  username = name.trim();
  storage.write("username", username, { inTab: true });
  if (keeps) storage.write("username", username);
}

export function lastUsername() {
  return username;
}

/** Show what follows an answer to a login: the second factor, new recovery codes, or the account. */
export function next(answer, { restores = false } = {}) {
  if (answer.mfa_required) {
    pending = { methods: answer.methods, restores };
    go(answer.mfa_confirmed ? "login/code" : "login/authenticator");
    return;
  }
  pending = null;
  if (answer.recovery_codes) {
    codes = answer.recovery_codes;
    go("recovery-codes", { replaces: true });
    return;
  }
  if (answer.recovery_codes_left !== undefined) {
    say(tx("login.codes_left", { count: answer.recovery_codes_left }), answer.recovery_codes_left < 3 ? "warn" : "good");
  }
  enter();
}

/** Forget the codes that were not saved: the next user of this tab must not see them. */
export function forgetCodes() {
  codes = null;
}

/** Show another view in place of one that has nothing to show. */
function lead(path) {
  go(path, { replaces: true });
  return null;
}

/** Begin the enrolment of an account that was just made. */
export function enrol() {
  pending = { methods: ["totp"], restores: false };
  go("login/authenticator");
}

function enter() {
  const back = target();
  if (back === null) goOn();
  else location.assign(back);
}

/** Give a code. An expired pending token cannot be used again: the login begins again, and says why. */
async function give(code) {
  let answer;
  try {
    answer = await giveCode(code, { remember: wantsRemembering });
  } catch (error) {
    if (error.code !== "invalid_token" && error.code !== "no_pending_token") throw error;
    pending = null;
    say(tx("error.invalid_token.code"), "error");
    go("login", { replaces: true });
    return;
  }
  next(answer);
}

function passwordStep({ title, lead, submit, restores, links }) {
  const name = usernameField({ value: username, hint: null });
  const remember = !restores && check("remember", { label: tx("login.remember"), hint: tx("login.remember.hint") });
  const made = form({
    fields: [name, passwordField(), ...(remember ? [remember] : [])],
    submit,
    where: "password",
    act: async ({ username: typed, password, remember: isRemembered = false }) => {
      username = typed.trim();
      wantsRemembering = isRemembered;
      const answer = await logIn(typed, password, { remember: isRemembered, restore: restores });
      rememberUsername(typed, { keeps: isRemembered }); // not before: it may be the password, in the wrong field
      next(answer, { restores });
    },
  });
  return card(heading(title, lead), made.element, h("div", { class: "links" }, links));
}

export const login = {
  title: "login.title",
  needs: "guest",
  render: () => passwordStep({
    title: "login.title",
    lead: tx("login.lead", { name: config.name }),
    submit: tx("login.submit"),
    restores: false,
    links: [
      config.messages && h("a", { href: "#forgot" }, tx("login.forgot")),
      config.signup !== "closed" && h("a", { href: "#signup" }, tx("login.signup")),
      h("a", { href: "#restore" }, tx("login.restore")),
    ],
  }),
};

export const restore = {
  title: "restore.title",
  needs: "guest",
  render: () => passwordStep({
    title: "restore.title",
    lead: tx("restore.lead"),
    submit: tx("restore.submit"),
    restores: true,
    links: [h("a", { href: "#login" }, tx("to_login"))],
  }),
};

export const loginCode = {
  title: "code.title",
  needs: "guest",
  render: () => {
    if (pending === null) return lead("login");
    const { restores } = pending;
    return card(
      heading("code.title", tx("code.lead")),
      codeStep({
        methods: pending.methods,
        submit: tx(restores ? "restore.submit" : "login.submit"),
        act: give,
        after: [
          config.recovery !== null && h("a", { href: "#lost" }, tx("code.lost")),
          h("a", { href: "#login" }, tx("code.other_user")),
        ],
      }),
    );
  },
};

export const loginAuthenticator = {
  title: "enrol.title",
  needs: "guest",
  isWide: true,
  render: () => {
    if (pending === null) return lead("login");
    return card(
      heading("enrol.title", tx("enrol.lead")),
      enrolment({ act: give }),
    );
  },
};

export const savedCodes = {
  title: "codes.title",
  needs: "user",
  isWide: true,
  render: () => {
    if (codes === null) return lead("overview");
    return card(
      heading("codes.title"),
      recoveryCodes(codes, {
        username: keyturn.user.username,
        act: () => {
          codes = null;
          enter();
        },
      }),
    );
  },
};
