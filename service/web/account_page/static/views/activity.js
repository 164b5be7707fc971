// The events of the account, the newest first.

import { h } from "../dom.js";
import { has, moment, t, tx } from "../i18n.js";
import { card, heading } from "../layout.js";
import { loaded } from "../loaded.js";
import { keyturn } from "../session.js";

const SERIOUS = new Set(["code.refused_repeatedly", "recovery.started", "session.refresh_reused"]);

function item({ event, occurred_at: time, details }) {
  const about = [details.name, details.address].filter((text) => typeof text === "string");
  return h("li", {},
    h("div", { class: "about" },
      h("strong", {}, () => (has(`event.${event}`) ? t(`event.${event}`) : event)),
      " ",
      SERIOUS.has(event) && h("span", { class: "badge warn" }, tx("activity.check")),
      h("p", { class: "muted small" }, [() => moment(time), ...about.map((text) => ` · ${text}`)])),
  );
}

export const activity = {
  title: "activity.title",
  needs: "user",
  render: () => h("div", { class: "stack" },
    heading("activity.title", tx("activity.lead")),
    loaded(async () => {
      const events = await keyturn.events();
      if (events.length === 0) return h("p", { class: "muted" }, tx("activity.none"));
      return card(h("ul", { class: "items" }, events.map(item)));
    })),
};
