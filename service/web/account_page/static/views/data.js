// The user's data: export, and deletion of the account.

import { button } from "../actions.js";
import { config } from "../config.js";
import { confirm } from "../dialog.js";
import { h } from "../dom.js";
import { form, hiddenUsername, passwordField } from "../forms.js";
import { fresh } from "../fresh.js";
import { day, duration, tx } from "../i18n.js";
import { card, heading } from "../layout.js";
import { go } from "../router.js";
import { keyturn, own } from "../session.js";

let deletedAt = null;

async function save() {
  const url = URL.createObjectURL(await fresh(() => keyturn.exportAccount()));
  h("a", { href: url, download: "account.json" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

async function remove() {
  const { username } = keyturn.user;
  const { deleted_at: time } = await confirm({
    title: tx("delete.title"),
    text: deletionText(),
    submit: tx("delete.submit"),
    where: "own_password",
    before: [hiddenUsername(username)],
    fields: [passwordField()],
    act: ({ password }) => fresh(() => own(() => keyturn.deleteAccount(password))),
  });
  deletedAt = time;
  go("deleted", { replaces: true });
}

function deletionText() {
  return config.deletion === 0 ? tx("delete.at_once") : tx("delete.text", { time: () => duration(config.deletion) });
}

export const data = {
  title: "data.title",
  needs: "user",
  render: () => h("div", { class: "stack" },
    heading("data.title"),
    card(
      h("header", {}, h("h2", {}, tx("export.title"))),
      h("p", { class: "muted" }, tx("export.text")),
      form({ submit: tx("export.submit"), kind: "quiet", act: save }).element,
    ),
    card(
      h("header", {}, h("h2", {}, tx("delete.title"))),
      h("p", { class: "muted" }, deletionText()),
      h("div", { class: "row" }, button("delete.begin", remove, "danger")),
    )),
};

export const deleted = {
  title: "deleted.title",
  needs: "guest",
  render: () => card(
    heading("deleted.title"),
    h("p", {}, deletedAt !== null && config.deletion > 0
      ? tx("deleted.until", { day: () => day(deletedAt) }) : tx("deleted.text")),
    h("div", { class: "links" },
      config.deletion > 0 && h("a", { href: "#restore" }, tx("login.restore")),
      h("a", { href: "#login" }, tx("to_login"))),
  ),
};
