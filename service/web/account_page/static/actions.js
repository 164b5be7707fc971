// Buttons that call the service without a form. A refusal is shown at the top of the view; a press tries again.

import { holdBack, isHeldBack, newTimer } from "./countdown.js";
import { h } from "./dom.js";
import { sentence } from "./errors.js";
import { tx } from "./i18n.js";

let refusal = null;

/** A button that runs `act`, one run at a time. A dialog that the user closed is no refusal. */
export function button(key, act, kind = "quiet small-button") {
  let isBusy = false;
  const element = h("button", {
    type: "button",
    class: kind,
    onclick: async () => {
      if (isBusy || isHeldBack(element)) return;
      isBusy = true;
      clearRefusal();
      try {
        await act();
      } catch (error) {
        if (error.code !== "cancelled") holdBack(element, refuse(error), error);
      } finally {
        isBusy = false;
      }
    },
  }, tx(key));
  return element;
}

/** Show and read aloud why something failed. Returns the place for a countdown. */
export function refuse(error) {
  if (error.code === undefined) console.error(error);
  clearRefusal();
  const timer = newTimer();
  refusal = h("div", { class: "stack tight" },
    h("div", { class: "notice error", role: "alert" }, sentence(error)), timer);
  document.querySelector("main > .stack").prepend(refusal);
  refusal.scrollIntoView({ block: "nearest" });
  return timer;
}

export function clearRefusal() {
  refusal?.remove();
  refusal = null;
}
