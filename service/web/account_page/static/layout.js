// What surrounds every view: the name of the service, the navigation of the account, the choice of the language.

import { button, clearRefusal, refuse } from "./actions.js";
import { config } from "./config.js";
import { h, mark, put } from "./dom.js";
import { choose, current, languageName, t, tx } from "./i18n.js";
import { target } from "./return-to.js";
import { keyturn, logOut } from "./session.js";

const SECTIONS = ["overview", "security", "sessions", "activity", "data"];

const page = document.getElementById("page");

/** Show a view: with the navigation of the account if it needs a session, else alone in the middle. */
export function frame({ view, path, content }) {
  const isAccount = view.needs === "user" && SECTIONS.includes(path);
  const main = h("main", { id: "main", tabindex: "-1" }, h("div", { class: "stack" }, content));
  const skip = h("button", { type: "button", class: "skip", onclick: () => main.focus() }, tx("skip"));
  put(page,
    skip,
    top(),
    h("div", { class: `middle ${isAccount ? "account" : `alone ${view.isWide ? "wide" : ""}`}` },
      isAccount && navigation(path), main),
    bottom(),
  );
  entitle(view);
}

let titled = null;

function entitle(view) {
  titled = view;
  document.title = `${t(view.title)} – ${config.name}`;
}

function top() {
  const user = keyturn.user;
  return h("header", { class: "top" },
    h("div", { class: "brand" }, h("a", { href: "#" }, mark(), config.name)),
    user && h("div", { class: "who" },
      h("span", { class: "muted" }, user.username),
      button("logout", leave),
    ),
  );
}

async function leave() {
  await logOut();
  location.hash = "login";
}

function navigation(path) {
  const back = target();
  return h("nav", { "aria-label": tx("nav.label") }, h("ul", {},
    SECTIONS.map((name) => h("li", {},
      h("a", { href: `#${name}`, "aria-current": name === path && "page" }, tx(`${name}.title`)))),
    back && h("li", {}, h("a", { href: back.href, rel: "noreferrer" }, tx("nav.back", { host: back.host }))),
  ));
}

function bottom() {
  const select = h("select", {
    onchange: async () => {
      clearRefusal();
      try {
        await choose(select.value);
        entitle(titled);
      } catch (error) {
        select.value = current();
        refuse(error);
      }
    },
  }, config.languages.map((name) => h("option", { value: name, lang: name, selected: name === current() },
    languageName(name))));
  return h("footer", { class: "bottom" }, h("label", {}, h("span", {}, tx("language")), select));
}

/** The heading of a view, which gets the focus when the view begins. */
export function heading(key, lead = null, values = {}) {
  return h("div", { class: "lead" },
    h("h1", { tabindex: "-1" }, tx(key, values)), lead && h("p", { class: "muted" }, lead));
}

export function card(...content) {
  return h("section", { class: "card stack" }, content);
}
