// Signing up, with or without an invitation.

import { config } from "../config.js";
import { h } from "../dom.js";
import { check, field, form, newPasswordField, usernameField } from "../forms.js";
import { current, tx } from "../i18n.js";
import { card, heading } from "../layout.js";
import { forgetToken, say, tokenOf } from "../router.js";
import { keyturn, logIn } from "../session.js";
import { enrol, next, rememberUsername } from "./login.js";

function closed(key) {
  return card(heading("signup.title"), h("p", {}, tx(key)), h("a", { href: "#login" }, tx("to_login")));
}

function render(token) {
  if (config.signup === "closed") return closed("error.signup_closed");
  if (config.signup === "invited" && token === null) return closed("signup.needs_invitation");
  const factor = check("enable_mfa", { label: tx("signup.mfa"), hint: tx("signup.mfa.hint"), checked: true });
  const password = newPasswordField(() => config.mfaRequired || factor.input.checked);
  factor.input.addEventListener("change", () => password.rewrite());
  const asksForAddress = config.messages || token !== null;
  const email = asksForAddress && field("email", {
    label: tx(token === null ? "field.email.optional" : "field.email"), type: "email", autocomplete: "email",
    maxlength: 128, hint: tx(token === null ? "signup.email.hint" : "signup.email.invited"),
  });
  const name = usernameField({ hint: tx("field.username.hint"), label: tx("field.new_username") });
  const made = form({
    fields: [name, ...(email ? [email] : []), password, ...(config.mfaRequired ? [] : [factor])],
    submit: tx("signup.submit"),
    where: "signup",
    act: async ({ username, email: address = "", password: chosen, enable_mfa: wantsFactor = true }) => {
      const details = { username, password: chosen, enable_mfa: wantsFactor, locale: current() };
      if (address.trim() !== "") details.email = address;
      if (token !== null) details.invitation = token;
      const made = await keyturn.signUp(details);
      forgetToken("invitation");
      rememberUsername(made.username);
      if (details.email) say(tx("signup.email_sent"));
      if (made.mfa_enabled) enrol();
      else next(await logIn(made.username, chosen));
    },
  });
  return card(
    heading("signup.title", tx(token === null ? "signup.lead" : "signup.invited", { name: config.name })),
    made.element,
    h("div", { class: "links" }, h("a", { href: "#login" }, tx("signup.login"))),
  );
}

export const signup = { title: "signup.title", needs: "guest", render: () => render(null) };

export const invitation = {
  title: "signup.title",
  needs: "guest",
  render: () => {
    const token = tokenOf("invitation");
    return token === null && config.signup !== "closed" ? closed("link.gone") : render(token);
  },
};
