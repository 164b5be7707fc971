// The links of messages about addresses. Opening one does nothing: the user decides by a button.

import { h, put } from "../dom.js";
import { form } from "../forms.js";
import { tx } from "../i18n.js";
import { card, heading } from "../layout.js";
import { forgetToken, tokenOf } from "../router.js";
import { keyturn } from "../session.js";

function linkView(name, key, act, { kind = "", where = "link" } = {}) {
  return {
    title: `${key}.title`,
    render: () => {
      const token = tokenOf(name);
      const home = () => h("div", { class: "links" },
        h("a", { href: "#" }, tx(keyturn.user ? "to_account" : "to_login")));
      if (token === null) return card(heading(`${key}.title`), h("p", {}, tx("link.gone")), home());
      const view = card();
      const made = form({
        submit: tx(`${key}.submit`),
        kind,
        where,
        act: async () => {
          await act(token);
          forgetToken(name);
          put(view, heading(`${key}.done`), h("p", { role: "status" }, tx(`${key}.done.text`)), home());
          view.querySelector("h1").focus();
        },
      });
      return put(view, heading(`${key}.title`, tx(`${key}.lead`)), made.element);
    },
  };
}

export const confirmEmail = linkView("confirm-email", "confirm_email", keyturn.confirmEmail);
export const cancelEmail = linkView("cancel-email", "cancel_email", keyturn.cancelEmail, {
  kind: "danger",
  where: "cancel_link",
});
