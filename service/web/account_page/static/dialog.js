// Dialogs. They are `dialog` elements: the browser keeps the focus inside, and returns it when the dialog closes.

import { h, newId } from "./dom.js";
import { form } from "./forms.js";
import { tx } from "./i18n.js";

/** The user closed a dialog without an answer. A form that waits for one shows nothing. */
export const cancelled = Object.freeze({ code: "cancelled" });

/** Show a dialog. `content(done)` makes what it has; resolves with what `done` gets, rejects if it is closed. */
export function ask({ title, text = null, content }) {
  return new Promise((resolve, reject) => {
    const id = newId("dialog");
    const dialog = h("dialog", { "aria-labelledby": id },
      h("div", { class: "stack" },
        h("div", { class: "lead" }, h("h2", { id }, title), text && h("p", { class: "muted" }, text)),
        content((value) => {
          resolve(value);
          dialog.close();
        }),
        h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, tx("dialog.cancel")),
      ));
    dialog.addEventListener("close", () => {
      dialog.remove();
      reject(cancelled); // without effect after `resolve`
    });
    document.body.append(dialog);
    // By itself the browser would choose the hidden username of a form, where nobody sees the focus.
    dialog.querySelector('input:not([tabindex="-1"]), button').autofocus = true;
    dialog.showModal();
  });
}

/** Close every dialog as if the user had cancelled it. */
export function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
}

/** Ask before something that cannot be undone. `act` runs on confirmation; its refusal is shown in the dialog. */
export function confirm({ title, text, submit, kind = "danger", fields = [], before = [], where = "", act }) {
  return ask({
    title,
    text,
    content: (done) => form({
      fields, before, submit, kind, where, act: async (values) => done(await act(values)),
    }).element,
  });
}
