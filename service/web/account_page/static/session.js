// The one object of keyturn.js that all views use, and what the page knows about the user.

import { createKeyturn } from "./keyturn.js";
import { service } from "./config.js";
import * as storage from "./storage.js";

storage.forget("device"); // an earlier version kept the device token here; it is in a cookie now

export const keyturn = createKeyturn({ issuer: service, session: "cookie" });

let ownActs = 0;
let leaving = false;

/** Run what opens or ends a session here, so that the page does not take it for an act of another tab. */
export async function own(act) {
  ownActs += 1;
  try {
    return await act();
  } finally {
    ownActs -= 1;
  }
}

export function isOwn() {
  return ownActs > 0;
}

/** Log in. The request has the cookie with the device token of this browser, if there is one. */
export async function logIn(username, password, { remember = false, restore = false } = {}) {
  const credentials = { username, password };
  if (restore) return own(() => keyturn.restoreAccount(credentials));
  if (remember) credentials.remember_device = true;
  return own(() => keyturn.logIn(credentials));
}

export async function giveCode(code, { remember = false } = {}) {
  return own(() => keyturn.giveCode(remember ? { ...code, remember_device: true } : code));
}

/** Log out. `keyturn.user` may be another user for a moment meanwhile, whose account the page does not show. */
export async function logOut(options) {
  const before = keyturn.user?.sub;
  leaving = true;
  try {
    await own(() => keyturn.logOut(options));
  } finally {
    leaving = false;
    if (keyturn.user && keyturn.user.sub !== before) startAgain();
  }
}

export function isLeaving() {
  return leaving;
}

/** Load the page again, for another user: the view, an open dialog and what was typed are those of the user before. */
export function startAgain() {
  storage.write("user_changed", "yes", { inTab: true });
  location.reload();
}

/** Read the session of the cookie. Whether the service answers or not, the page begins. */
export async function restoreSession() {
  try {
    await keyturn.restoreSession();
    return null;
  } catch (error) {
    return error;
  }
}
