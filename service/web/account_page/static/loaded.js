// A part of a view that needs an answer of the service first.

import { holdBack, isHeldBack, newTimer } from "./countdown.js";
import { h, put } from "./dom.js";
import { sentence } from "./errors.js";
import { tx } from "./i18n.js";

/**
 * A place that shows what `make` resolves with; if it rejects, the reason and a button to try again. With `failure`,
 * the error of an earlier attempt, the place shows that error first and does not call `make`.
 */
export function loaded(make, failure = null) {
  const place = h("div", { class: "stack" });

  async function load() {
    const hadFocus = place.contains(document.activeElement);
    put(place, h("p", { class: "muted" }, tx("loading")));
    place.setAttribute("aria-busy", "true");
    if (hadFocus) { // the button is gone: keyboards and screen readers go on here
      place.tabIndex = -1;
      place.focus();
    }
    try {
      put(place, await make());
      if (hadFocus && !place.hasChildNodes()) document.querySelector("h1")?.focus();
    } catch (error) {
      refuse(error);
    }
    place.removeAttribute("aria-busy");
  }

  function refuse(error) {
    if (error.code === undefined) console.error(error);
    const timer = newTimer();
    const again = h("button", {
      type: "button", class: "quiet", onclick: () => isHeldBack(again) || load(),
    }, tx("again"));
    put(place, h("div", { class: "notice error", role: "alert" }, sentence(error)), timer, again);
    if (document.activeElement === place) again.focus();
    holdBack(again, timer, error);
  }

  if (failure === null) load();
  else refuse(failure);
  return place;
}
