// The second step of a login: a verification code, or a recovery code in its place.

import { h } from "./dom.js";
import { field, form } from "./forms.js";
import { t, tx } from "./i18n.js";

/** A field for six digits. The first complete code of a form is sent by itself; later ones wait for the button. */
export function codeField(options = {}) {
  let isSent = false;
  const made = field("otp", {
    label: tx("field.code"), hint: () => t(isSent ? "field.code.again" : "field.code.hint"), inputmode: "numeric", autocomplete: "one-time-code",
    required: true, kind: "code", ...options,
  });
  made.input.addEventListener("input", () => {
    const digits = made.input.value.replace(/[\s-]/g, "");
    if (isSent || !/^[0-9]{6}$/.test(digits)) return;
    isSent = true;
    made.rewrite();
    made.input.form.requestSubmit();
  });
  return made;
}

/**
 * A form that takes a code of either kind. `act` gets `{otp}` or `{recovery_code}`; `methods` are those of the pending
 * token.
 */
export function codeStep({ methods, submit, act, where = "code", after = [] }) {
  const place = h("div", { class: "stack" });
  let usesRecoveryCode = false;

  function show() {
    const code = usesRecoveryCode
      ? field("recovery_code", {
        label: tx("field.recovery_code"), hint: tx("field.recovery_code.hint"), autocomplete: "off", required: true,
      })
      : codeField();
    const made = form({ fields: [code], submit, where, act });
    const other = methods.includes("recovery_code") && h("button", {
      type: "button",
      class: "link",
      onclick: () => {
        usesRecoveryCode = !usesRecoveryCode;
        show();
        place.querySelector("input").focus();
      },
    }, tx(usesRecoveryCode ? "code.use_app" : "code.use_recovery"));
    place.replaceChildren(made.element, h("div", { class: "links" }, other, after));
  }

  show();
  return place;
}
