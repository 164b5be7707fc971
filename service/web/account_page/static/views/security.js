// The second factor and the password.

import { button } from "../actions.js";
import { config } from "../config.js";
import { codeField } from "../code-step.js";
import { ask, confirm } from "../dialog.js";
import { h, put } from "../dom.js";
import { enrolment } from "../enrolment.js";
import { field, form, hiddenUsername, newPasswordField, passwordField } from "../forms.js";
import { fresh } from "../fresh.js";
import { day, moment, tx } from "../i18n.js";
import { card, heading } from "../layout.js";
import { loaded } from "../loaded.js";
import { recoveryCodes } from "../recovery-codes.js";
import { go, say, show } from "../router.js";
import { giveCode, keyturn, own } from "../session.js";

function nameField(options) {
  return field("name", {
    label: tx("factor.name"), required: true, maxlength: 64, autocomplete: "off", autocapitalize: "sentences",
    ...options,
  });
}

/** Add an authenticator: the password, the QR code, its first code; for the first one also the recovery codes. */
async function addFactor(account) {
  const isFirst = !account.mfa_confirmed;
  const named = nameField({ hint: tx("factor.name.hint") });
  await confirm({
    title: tx("factor.add"),
    text: tx(isFirst ? "factor.first.text" : "factor.add.text"),
    submit: tx("factor.next"),
    kind: "",
    where: "own_password",
    before: [hiddenUsername(account.username)],
    fields: [...(isFirst ? [] : [named]), passwordField()],
    act: (details) => fresh(() => keyturn.addFactor(details)),
  });
  const answer = await ask({
    title: tx("enrol.title"),
    text: tx("enrol.lead"),
    content: (done) => enrolment({ username: account.username, act: async (code) => done(await giveCode(code)) }),
  });
  if (answer.recovery_codes) {
    showCodes(account, answer.recovery_codes, "factor.added");
    return;
  }
  say(tx("factor.added"));
  show();
}

/** Show new recovery codes in place of the view, until the user has saved them. Then show the sentence `key`. */
function showCodes(account, codes, key) {
  const view = document.querySelector("main > .stack");
  put(view, card(
    heading("codes.title"),
    recoveryCodes(codes, {
      username: account.username,
      act: () => {
        say(tx(key));
        show();
      },
    }),
  ));
  view.querySelector("h1").focus();
}

async function renameFactor(factor) {
  await confirm({
    title: tx("factor.rename"),
    text: tx("factor.rename.text", { name: factor.name }),
    submit: tx("factor.rename"),
    kind: "",
    // What is typed replaces the old name.
    fields: [nameField({ value: factor.name, onfocus: ({ target }) => target.select() })],
    act: ({ name }) => fresh(() => keyturn.renameFactor(factor.id, name)),
  });
  say(tx("factor.renamed"));
  show();
}

async function removeFactor(factor) {
  await confirm({
    title: tx("factor.remove"),
    text: tx("factor.remove.text", { name: factor.name }),
    submit: tx("factor.remove"),
    act: () => fresh(() => keyturn.removeFactor(factor.id)),
  });
  say(tx("factor.removed"));
  show();
}

async function replaceCodes(account) {
  const codes = await confirm({
    title: tx("codes.replace"),
    text: tx("codes.replace.text"),
    submit: tx("codes.replace"),
    kind: "",
    act: () => fresh(() => keyturn.newRecoveryCodes()),
  });
  showCodes(account, codes, "codes.replaced");
}

async function turnOff(account) {
  await confirm({
    title: tx("factor.off"),
    text: tx("factor.off.text"),
    submit: tx("factor.off"),
    where: "off",
    before: [hiddenUsername(account.username)],
    fields: [passwordField(), codeField()],
    act: ({ password, otp }) => own(() => keyturn.disableMfa({ username: account.username, password, otp })),
  });
  say(tx("factor.is_off"));
  go("login", { replaces: true });
}

/** A change needs a fresh second factor, and one that is confirmed stays. */
function factorItem(factor, { mayChange, mayRemove }) {
  const uses = factor.last_used_at === null
    ? tx("factor.added_on", { day: () => day(factor.created_at) })
    : tx("factor.used", { time: () => moment(factor.last_used_at) });
  return h("li", {},
    h("div", { class: "about" },
      h("strong", {}, factor.name),
      " ",
      factor.confirmed_at === null && h("span", { class: "badge warn" }, tx("factor.unconfirmed")),
      factor.weak_secret && h("span", { class: "badge warn" }, tx("factor.weak")),
      h("p", { class: "muted small" }, uses)),
    mayChange && h("div", { class: "row" },
      button("factor.rename", () => renameFactor(factor)),
      mayRemove && button("factor.remove", () => removeFactor(factor), "danger small-button")),
  );
}

function secondFactor(account, factors) {
  const confirmed = factors.filter((factor) => factor.confirmed_at !== null);
  return card(
    h("header", {}, h("h2", {}, tx("factor.title")), account.mfa_confirmed && h("span", { class: "badge" }, tx("factor.on"))),
    h("p", { class: "muted" }, tx(account.mfa_confirmed ? "factor.text" : "factor.none")),
    factors.length > 0 && h("ul", { class: "items" },
      factors.map((factor) => factorItem(factor, {
        mayChange: account.mfa_confirmed,
        mayRemove: factor.confirmed_at === null || confirmed.length > 1,
      }))),
    h("div", { class: "row" },
      button(account.mfa_confirmed ? "factor.add" : "factor.first", () => addFactor(account),
        account.mfa_confirmed ? "quiet small-button" : "small-button"),
      account.mfa_confirmed && !config.mfaRequired && button("factor.off", () => turnOff(account), "danger small-button")),
  );
}

function codesLeft(account) {
  return card(
    h("header", {}, h("h2", {}, tx("codes.title"))),
    h("p", {}, tx("codes.left", { count: account.recovery_codes_left })),
    h("p", { class: "muted" }, tx("codes.why")),
    h("div", { class: "row" }, button("codes.replace", () => replaceCodes(account))),
  );
}

function password(account) {
  const old = passwordField({ name: "current_password", label: tx("field.current_password") });
  const chosen = newPasswordField(() => account.mfa_enabled, { name: "new_password" });
  const made = form({
    before: [hiddenUsername(account.username)],
    fields: [old, chosen],
    submit: tx("password.submit"),
    where: "own_password",
    act: async (passwords) => {
      await keyturn.changePassword(passwords);
      say(tx("password.changed"));
      show();
    },
  });
  return card(h("header", {}, h("h2", {}, tx("password.title"))), h("p", { class: "muted" }, tx("password.text")), made.element);
}

export const security = {
  title: "security.title",
  needs: "user",
  render: () => h("div", { class: "stack" },
    heading("security.title"),
    loaded(async () => {
      const [account, factors] = await Promise.all([keyturn.account(), keyturn.factors()]);
      return [secondFactor(account, factors), account.mfa_confirmed && codesLeft(account), password(account)];
    })),
};
