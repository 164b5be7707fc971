// The authenticator and the recovery codes are lost: delayed recovery, where the operator allows it.

import { config } from "../config.js";
import { h, put } from "../dom.js";
import { form, passwordField, usernameField } from "../forms.js";
import { duration, tx } from "../i18n.js";
import { card, heading } from "../layout.js";
import { keyturn } from "../session.js";
import { lastUsername } from "./login.js";

export const lost = {
  title: "lost.title",
  needs: "guest",
  render: () => {
    const links = h("div", { class: "links" }, h("a", { href: "#login" }, tx("to_login")));
    if (config.recovery === null) return card(heading("lost.title"), h("p", {}, tx("lost.off")), links);
    const time = () => duration(config.recovery);
    const view = card();
    const made = form({
      fields: [usernameField({ value: lastUsername() }), passwordField()],
      submit: tx("lost.submit"),
      where: "password",
      act: async ({ username, password }) => {
        await keyturn.requestRecovery({ username, password });
        put(view, heading("lost.done"), h("p", { role: "status" }, tx("lost.done.text", { time })), links);
        view.querySelector("h1").focus();
      },
    });
    return put(view, heading("lost.title", tx("lost.lead", { time })), made.element, links);
  },
};
