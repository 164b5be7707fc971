// Waiting after a refusal: the seconds are counted down on the screen.

import { announce, h, put, rewrite } from "./dom.js";
import { mustWait } from "./errors.js";
import { duration, t } from "./i18n.js";

/** The place of a countdown. It is empty, and not seen, until one begins. */
export function newTimer() {
  return h("p", { class: "timer muted small", role: "timer" });
}

/** Count the seconds down in `timer`, in the sentence `key`. At the end call `over`. Returns what stops it. */
export function countDown(timer, seconds, key, over) {
  const until = Date.now() + seconds * 1000;
  const left = () => Math.ceil((until - Date.now()) / 1000);
  put(timer, () => (left() > 0 ? t(key, { time: duration(left()) }) : t(`${key}.over`)));
  const ticking = setInterval(() => {
    rewrite(timer);
    if (left() > 0) return;
    clearInterval(ticking);
    over();
    if (timer.isConnected) announce(t(`${key}.over`)); // the user may have left the view
  }, 500);
  return () => clearInterval(ticking);
}

/** After 429 and 503, disable a button until the request may succeed. */
export function holdBack(button, timer, error) {
  if (!mustWait(error)) return;
  button.setAttribute("aria-disabled", "true");
  countDown(timer, error.retryAfter, "form.wait", () => button.removeAttribute("aria-disabled"));
}

export function isHeldBack(button) {
  return button.getAttribute("aria-disabled") === "true";
}
