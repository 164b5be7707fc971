// The first view of the account: its name, its e-mail address, the language of its messages, and what the user should
// check.

import { button } from "../actions.js";
import { config } from "../config.js";
import { confirm } from "../dialog.js";
import { h, newId } from "../dom.js";
import { field, hiddenUsername, passwordField } from "../forms.js";
import { fresh } from "../fresh.js";
import { day, languageName, moment, tx } from "../i18n.js";
import { card, heading } from "../layout.js";
import { loaded } from "../loaded.js";
import { say, show } from "../router.js";
import { keyturn } from "../session.js";

async function changeAddress(account) {
  await confirm({
    title: tx("email.change"),
    text: tx("email.change.text"),
    submit: tx("email.change.submit"),
    kind: "",
    where: "own_password",
    before: [hiddenUsername(account.username)],
    fields: [
      field("email", { label: tx("field.email"), type: "email", autocomplete: "email", required: true, maxlength: 128 }),
      passwordField(),
    ],
    act: keyturn.changeEmail,
  });
  say(tx("email.sent"));
  show();
}

async function removeAddress(account) {
  await confirm({
    title: tx("email.remove"),
    text: tx("email.remove.text"),
    submit: tx("email.remove"),
    where: "own_password",
    before: [hiddenUsername(account.username)],
    fields: account.mfa_confirmed ? [] : [passwordField()],
    act: ({ password }) => fresh(() => keyturn.removeEmail(password)),
  });
  say(tx("email.removed"));
  show();
}

function address(account) {
  const { email, new_email: waiting } = account;
  return card(
    h("header", {}, h("h2", {}, tx("email.title"))),
    h("p", {}, email ?? h("span", { class: "muted" }, tx("email.none"))),
    waiting && h("div", { class: "notice" }, tx("email.waiting", { email: waiting })),
    config.messages && h("p", { class: "muted small" }, tx("email.why")),
    h("div", { class: "row" },
      config.messages && button(email ? "email.change" : "email.add", () => changeAddress(account)),
      (email || waiting) && button("email.remove", () => removeAddress(account), "danger small-button")),
  );
}

/** The name of any language tag; the tag itself if the browser has no name for it. */
function nameOf(tag) {
  try {
    return languageName(tag);
  } catch {
    return tag;
  }
}

/** The language of the messages, which need not be that of the page. */
function messages({ locale }) {
  const base = locale?.toLowerCase().split("-")[0];
  const chosen = locale === null ? "" : config.languages.includes(base) ? base : locale;
  const others = chosen === "" || config.languages.includes(chosen) ? [] : [chosen];
  const option = (value, text, lang = null) => h("option", { value, lang, selected: value === chosen }, text);
  const id = newId("messages");
  const select = h("select", { id },
    option("", tx("messages.default")),
    [...config.languages, ...others].map((tag) => option(tag, nameOf(tag), tag)));
  return card(
    h("header", {}, h("h2", {}, h("label", { for: id }, tx("messages.title")))),
    h("p", { class: "muted small" }, tx("messages.why")),
    h("div", { class: "row" }, select, button("messages.save", async () => {
      await keyturn.changeLocale(select.value || null);
      say(tx("messages.saved"));
      show();
    })),
  );
}

function recovery(account) {
  return h("div", { class: "notice warn stack tight" },
    h("strong", {}, tx("recovery.title")),
    h("p", {}, tx("recovery.text", { time: () => moment(account.recovery_due_at) })),
    h("div", { class: "row" }, button("recovery.cancel", async () => {
      await keyturn.cancelRecovery();
      say(tx("recovery.cancelled"));
      show();
    })),
  );
}

export const overview = {
  title: "overview.title",
  needs: "user",
  render: () => h("div", { class: "stack" },
    heading("overview.hello", null, { name: keyturn.user.username }),
    loaded(async () => {
      const account = await keyturn.account();
      return [
        account.recovery_due_at !== null && recovery(account),
        !account.mfa_confirmed && h("div", { class: "notice warn" }, tx("overview.no_mfa"), " ",
          h("a", { href: "#security" }, tx("overview.set_up"))),
        account.mfa_confirmed && account.recovery_codes_left < 3 && h("div", { class: "notice warn" },
          tx("overview.few_codes", { count: account.recovery_codes_left }), " ",
          h("a", { href: "#security" }, tx("overview.new_codes"))),
        card(
          h("header", {}, h("h2", {}, tx("overview.account"))),
          h("p", {}, account.username),
          h("p", { class: "muted small" }, tx("overview.since", { day: () => day(account.created_at) })),
        ),
        address(account),
        config.messages && messages(account),
      ];
    })),
};
