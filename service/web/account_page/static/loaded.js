// A part of a view that needs an answer of the service first.

import { h, put } from "./dom.js";
import { sentence } from "./errors.js";
import { tx } from "./i18n.js";

/** A place that shows what `make` resolves with; if it rejects, the reason and a button to try again. */
export function loaded(make) {
  const place = h("div", { class: "stack", "aria-busy": "true" });

  async function load() {
    put(place, h("p", { class: "muted" }, tx("loading")));
    place.setAttribute("aria-busy", "true");
    try {
      put(place, await make());
    } catch (error) {
      if (error.code === undefined) console.error(error);
      put(place,
        h("div", { class: "notice error", role: "alert" }, sentence(error)),
        h("button", { type: "button", class: "quiet", onclick: load }, tx("again")),
      );
    }
    place.removeAttribute("aria-busy");
  }

  load();
  return place;
}
