// Forms: fields with labels, one answer to a submission at a time, refusals that are read aloud, and waiting.

import { config } from "./config.js";
import { countDown, newTimer } from "./countdown.js";
import { h, newId, put, rewrite } from "./dom.js";
import { fieldsOf, mustWait, sentence } from "./errors.js";
import { t, tx } from "./i18n.js";

/** A field with its label. `options` are attributes of the input, and `label`, `hint` and `extra`. */
export function field(name, { label, hint = null, extra = null, kind = "", ...attributes }) {
  const id = newId(name);
  const input = h("input", {
    id, name, type: "text", spellcheck: "false", autocapitalize: "none", "aria-describedby": `${id}-hint ${id}-wrong`,
    ...attributes,
  });
  const wrong = h("p", { class: "wrong", id: `${id}-wrong` });
  const element = h("div", { class: `field ${kind}` },
    h("label", { for: id }, label),
    extra === null ? input : h("div", { class: "with-button" }, input, extra(input)),
    h("p", { class: "hint", id: `${id}-hint` }, hint),
    wrong,
  );
  input.addEventListener("input", () => refuse(null));

  function refuse(text) {
    put(wrong, text);
    if (text === null) input.removeAttribute("aria-invalid");
    else input.setAttribute("aria-invalid", "true");
  }
  return { element, input, name, refuse, rewrite: () => rewrite(element) };
}

export function usernameField(options = {}) {
  return field("username", {
    label: tx("field.username"), autocomplete: "username", required: true, maxlength: 128, ...options,
  });
}

/** A username that only the password manager reads: it belongs to the password of the form. */
export function hiddenUsername(username) {
  return h("input", {
    type: "text", name: "username", autocomplete: "username", value: username ?? "", readonly: true, tabindex: "-1",
    class: "unseen", "aria-hidden": "true",
  });
}

export function passwordField({ name = "password", ...options } = {}) {
  const reveal = (input) => {
    const button = h("button", {
      type: "button", class: "quiet", "aria-pressed": "false", "aria-controls": input.id,
      "aria-label": tx("field.show.label"),
      onclick: () => {
        input.type = input.type === "password" ? "text" : "password";
        button.setAttribute("aria-pressed", String(input.type === "text"));
        rewrite(button);
      },
    }, () => t(input.type === "password" ? "field.show" : "field.hide"));
    return button;
  };
  return field(name, {
    label: tx("field.password"), type: "password", autocomplete: "current-password", required: true, maxlength: 1024,
    extra: reveal, ...options,
  });
}

/** A field for a new password. `hasSecondFactor` says which length it needs, and may change. */
export function newPasswordField(hasSecondFactor, options = {}) {
  const length = () => config.lengths[hasSecondFactor() ? 0 : 1];
  return passwordField({
    label: tx("field.new_password"), autocomplete: "new-password", hint: tx("field.new_password.hint", { length }),
    ...options,
  });
}

/** A check box. `hint` is a second line. */
export function check(name, { label, hint = null, checked = false }) {
  const input = h("input", { type: "checkbox", name, id: newId(name), checked });
  const element = h("label", { class: "check" }, input,
    h("span", {}, h("span", {}, label), hint && h("span", { class: "muted small" }, hint)));
  return { element, input, name };
}

/**
 * A form. `act` gets the values by name; while it runs, nothing is submitted again. If it rejects, the refusal is
 * shown and read aloud, and everything that was typed stays. After 429 and 503 the button counts the seconds down.
 */
export function form({ fields = [], before = [], after = [], submit, kind = "", where = "", act, id = newId("form") }) {
  const message = h("div", { class: "notice error", role: "alert" });
  const timer = newTimer();
  const label = h("span", {}, submit);
  const button = h("button", { type: "submit", class: kind }, label);
  const element = h("form", { id, method: "post", novalidate: true },
    before, message, fields.map(({ element: part }) => part), timer, button, after);
  const inputs = fields.filter(({ input }) => input);
  const texts = inputs.filter(({ input }) => input.type !== "checkbox");
  let isBusy = false;
  let waitsUntil = 0;
  let stopCountdown = () => {};

  message.remove(); // an alert is read aloud when it appears

  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (isBusy || Date.now() < waitsUntil) return;
    if (!isComplete()) return;
    setBusy(true);
    clear();
    try {
      const values = Object.fromEntries(inputs.map(({ name, input }) => [
        name, input.type === "checkbox" ? input.checked : input.value,
      ]));
      await act(values);
    } catch (error) {
      show(error);
    } finally {
      setBusy(false);
    }
  });

  function isComplete() {
    const missing = inputs.filter(({ input, refuse }) => refuse && input.required && input.value.trim() === "");
    for (const { refuse } of missing) refuse(tx("field.missing"));
    missing[0]?.input.focus();
    return missing.length === 0;
  }

  function setBusy(busy) {
    isBusy = busy;
    element.setAttribute("aria-busy", String(busy));
    setUsable();
  }

  function setUsable() {
    const isUsable = !isBusy && Date.now() >= waitsUntil;
    if (isUsable) button.removeAttribute("aria-disabled");
    else button.setAttribute("aria-disabled", "true");
  }

  function clear() {
    stopCountdown();
    waitsUntil = 0;
    message.remove();
    put(timer);
    for (const { refuse } of inputs) refuse?.(null);
  }

  function show(error) {
    if (error.code === "cancelled") return; // the user closed the dialog that asked for more
    if (error.code === undefined) console.error(error);
    put(message, sentence(error, where));
    element.insertBefore(message, element.querySelector(".field, .check, .timer"));
    const refused = fieldsOf(error, where);
    for (const [name, key] of refused) inputs.find((each) => each.name === name)?.refuse?.(key === null ? "" : tx(key));
    if (mustWait(error)) wait(error.retryAfter, "form.wait", true);
    else if (error.code === "invalid_code" && error.retryAfter) wait(error.retryAfter, "form.next_code", false);
    const focused = texts.find(({ name }) => refused.some(([wrong]) => wrong === name)) ?? texts.at(-1);
    focused?.input.focus();
    if (["otp", "recovery_code"].includes(focused?.name)) focused.input.select(); // the next one replaces it
  }

  /** Count the seconds down. With `blocks` nothing is submitted before the end. */
  function wait(seconds, key, blocks) {
    if (blocks) waitsUntil = Date.now() + seconds * 1000;
    stopCountdown = countDown(timer, seconds, key, setUsable);
    setUsable();
  }

  return { element, button, show, clear };
}
