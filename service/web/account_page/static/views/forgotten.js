// A forgotten password: the request for a link, and the new password at its end.

import { h, put } from "../dom.js";
import { form, hiddenUsername, newPasswordField, usernameField } from "../forms.js";
import { tx } from "../i18n.js";
import { card, heading } from "../layout.js";
import { forgetToken, go, say, tokenOf } from "../router.js";
import { keyturn, own } from "../session.js";
import { lastUsername, rememberUsername } from "./login.js";

export const forgot = {
  title: "forgot.title",
  needs: "guest",
  render: () => {
    const view = card();
    const made = form({
      fields: [usernameField({ value: lastUsername() })],
      submit: tx("forgot.submit"),
      where: "forgot",
      act: async ({ username }) => {
        await keyturn.requestPasswordReset(username);
        rememberUsername(username);
        put(view, heading("forgot.sent"), h("p", { role: "status" }, tx("forgot.sent.text")),
          h("p", { class: "muted" }, tx("forgot.sent.more")), toLogin());
        view.querySelector("h1").focus();
      },
    });
    return put(view, heading("forgot.title", tx("forgot.lead")), made.element, toLogin());
  },
};

function toLogin() {
  return h("div", { class: "links" }, h("a", { href: "#login" }, tx("to_login")));
}

/** The password of one user is set while another is logged in: say whose session this browser has. */
function otherUser({ username }) {
  return [
    heading("reset.other.title"),
    h("p", { role: "status" }, tx("reset.other.text", { username })),
    h("div", { class: "links" }, h("a", { href: "#overview" }, tx("reset.other.stay", { username }))),
  ];
}

export const resetPassword = {
  title: "reset.title",
  render: () => {
    const token = tokenOf("reset-password");
    if (token === null) {
      return card(heading("reset.title"), h("p", {}, tx("link.gone")),
        h("div", { class: "links" }, h("a", { href: "#forgot" }, tx("reset.again"))));
    }
    const view = card();
    const made = form({
      before: [hiddenUsername(lastUsername())],
      // Whether the account has a second factor, only the service knows: it says so if the password is too short.
      fields: [newPasswordField(() => false)],
      submit: tx("reset.submit"),
      where: "link",
      act: async ({ password }) => {
        await keyturn.resetPassword({ token, new_password: password });
        forgetToken("reset-password");
        // Every session of that user has ended. If this browser had one of them, the service says so now.
        if (keyturn.user) await own(() => keyturn.account()).catch(() => {});
        if (keyturn.user) {
          put(view, otherUser(keyturn.user));
          view.querySelector("h1").focus();
          return;
        }
        say(tx("reset.done"));
        go("login", { replaces: true });
      },
    });
    return put(view, heading("reset.title", tx("reset.lead")), made.element);
  },
};
