// Views by the fragment of the URL, so that the back button works and no view needs the server.
//
// A link of a message has its token in the fragment, too. It is read once and removed from the URL at once, so that
// neither the history nor a copied address has it. Nothing is sent until the user presses a button. The token is
// dropped when the user leaves the view that uses it, because another user may come to this tab.

import { h } from "./dom.js";
import { frame } from "./layout.js";
import { keyturn } from "./session.js";

const LINK = /^#(cancel-email|confirm-email|invitation|reset-password)=(.+)$/;

const views = new Map();
const tokens = new Map();
let wanted = null; // the view that a user without a session asked for
let notice = null; // what is shown once above the next view
let shown = null;

/** `needs`: "user" is for a session, "guest" for none; a view with neither is for all. */
export function define(path, view) {
  views.set(path, view);
}

/** Keep the token of a link in memory, and take it out of the URL. */
export function takeToken() {
  const found = LINK.exec(location.hash);
  if (found === null) return;
  tokens.set(found[1], found[2]);
  history.replaceState(null, "", `#${found[1]}`);
}

export function tokenOf(name) {
  return tokens.get(name) ?? null;
}

export function forgetToken(name) {
  tokens.delete(name);
}

/** Show another view. With `replaces` the back button does not lead to the present one. */
export function go(path, { replaces = false } = {}) {
  if (replaces) {
    history.replaceState(null, "", `#${path}`);
    show();
  } else if (location.hash === `#${path}`) {
    show();
  } else {
    location.hash = path;
  }
}

/** Show a text, or an element that has one, once above the next view. */
export function say(what, kind = "good") {
  notice = { what, kind };
}

/** Show the view that was asked for before the login. */
export function goOn() {
  const path = wanted ?? "overview";
  wanted = null;
  go(path, { replaces: true });
}

function place() {
  const path = location.hash.slice(1);
  return views.has(path) ? path : "";
}

/** The view of the URL, or the one that its user must see first. */
function permitted() {
  const path = place();
  const { needs } = views.get(path) ?? {};
  if (path === "") return keyturn.user ? "overview" : "login";
  if (needs === "user" && !keyturn.user) {
    wanted = path;
    return "login";
  }
  if (needs === "guest" && keyturn.user) return "overview";
  return path;
}

export function show() {
  takeToken();
  const path = permitted();
  for (const name of tokens.keys()) if (name !== path) tokens.delete(name);
  if (path !== location.hash.slice(1)) history.replaceState(null, "", `#${path}`);
  const view = views.get(path);
  const content = view.render();
  if (content === null) return; // the view has led elsewhere
  const says = notice;
  notice = null;
  const isFirst = shown === null;
  shown = path;
  const said = says && (says.what instanceof Element
    ? says.what : h("div", { class: `notice ${says.kind}`, role: "status" }, says.what));
  frame({ view, path, content: [said, content] });
  window.scrollTo(0, 0);
  // Screen readers and keyboards go on at the top of the new view. At the first one the browser begins by itself.
  if (!isFirst) document.querySelector("h1")?.focus({ preventScroll: true });
}

/** The view on the screen. */
export function present() {
  return shown;
}

export function start() {
  window.addEventListener("hashchange", show);
  show();
}
