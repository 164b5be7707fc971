// The sessions of the user: where they are logged in.

import { button } from "../actions.js";
import { confirm } from "../dialog.js";
import { h } from "../dom.js";
import { moment, tx } from "../i18n.js";
import { card, heading } from "../layout.js";
import { loaded } from "../loaded.js";
import { go, say, show } from "../router.js";
import { keyturn, logOut, own } from "../session.js";
import { describe } from "../user-agents.js";

async function end(session) {
  await confirm({
    title: tx("sessions.end"),
    text: tx("sessions.end.text", { client: describe(session.user_agent), address: session.address }),
    submit: tx("sessions.end"),
    act: () => own(() => keyturn.endSession(session.sid)),
  });
  say(tx("sessions.ended"));
  show();
}

/** End all sessions. If another user has logged in meanwhile, only their session in this browser has ended. */
async function leaveEverywhere() {
  try {
    await logOut({ everywhere: true });
    say(tx("sessions.all_ended"));
  } catch (error) {
    if (error.code !== "user_changed" || keyturn.user) throw error;
    say(tx("sessions.not_ended"), "warn");
  }
}

async function endAll() {
  await confirm({
    title: tx("sessions.end_all"),
    text: tx("sessions.end_all.text"),
    submit: tx("sessions.end_all"),
    act: leaveEverywhere,
  });
  go("login");
}

function item(session) {
  return h("li", {},
    h("div", { class: "about" },
      h("strong", {}, describe(session.user_agent) || tx("sessions.unknown")),
      " ",
      session.current && h("span", { class: "badge" }, tx("sessions.current")),
      h("p", { class: "muted small" }, session.address),
      h("p", { class: "muted small" }, tx("sessions.times", {
        begun: () => moment(session.created_at), used: () => moment(session.last_used_at),
      }))),
    !session.current && button("sessions.end", () => end(session)),
  );
}

export const sessions = {
  title: "sessions.title",
  needs: "user",
  render: () => h("div", { class: "stack" },
    heading("sessions.title", tx("sessions.lead")),
    loaded(async () => {
      const found = await keyturn.sessions();
      found.sort((one, other) => other.current - one.current); // this one first; the order of the others stays
      return [
        card(h("ul", { class: "items" }, found.map(item))),
        h("div", { class: "row" }, button("sessions.end_all", endAll, "danger")),
      ];
    })),
};
