// Start the page: load the language, find the session of the cookie, and show the view of the URL.

import { closeDialogs } from "./dialog.js";
import { start as startLanguage, tx } from "./i18n.js";
import { loaded } from "./loaded.js";
import { define, go, goOn, present, say, start, takeToken } from "./router.js";
import { isLeaving, isOwn, keyturn, own, restoreSession, startAgain } from "./session.js";
import * as storage from "./storage.js";
import { activity } from "./views/activity.js";
import { data, deleted } from "./views/data.js";
import { cancelEmail, confirmEmail } from "./views/email-links.js";
import { forgot, resetPassword } from "./views/forgotten.js";
import { forgetCodes, login, loginAuthenticator, loginCode, restore, savedCodes } from "./views/login.js";
import { lost } from "./views/lost.js";
import { overview } from "./views/overview.js";
import { security } from "./views/security.js";
import { sessions } from "./views/sessions.js";
import { invitation, signup } from "./views/signup.js";

const VIEWS = {
  login, "login/code": loginCode, "login/authenticator": loginAuthenticator, "recovery-codes": savedCodes,
  restore, lost, signup, invitation, forgot, "reset-password": resetPassword,
  "confirm-email": confirmEmail, "cancel-email": cancelEmail, deleted,
  overview, security, sessions, activity, data,
};

takeToken(); // before anything waits: the URL must not keep it
try {
  await startLanguage();
} catch (error) {
  document.getElementById("page").textContent = "The page could not be loaded. Please load it again."; // English only
  throw error;
}
for (const [path, view] of Object.entries(VIEWS)) define(path, view);
if (storage.read("user_changed") !== null) say(tx("error.user_changed"), "warn");
storage.forget("user_changed");
const failure = await restoreSession();
if (failure !== null) say(loaded(restoreAgain, failure));
start();

/** Read the session once more. A user who has none stays in the present view, and what was typed in it stays, too. */
async function restoreAgain() {
  await own(() => keyturn.restoreSession());
  if (keyturn.user && VIEWS[present()].needs === "guest") goOn();
}

// Another tab, another browser or the service may end the session, and another tab or application may begin one.
let subject = keyturn.user?.sub;
keyturn.onChange((user) => {
  const before = subject;
  subject = user?.sub;
  if (user === null) forgetCodes();
  const { needs } = VIEWS[present()];
  if (before && subject && before !== subject && needs === "user" && !isLeaving()) startAgain();
  if (isOwn()) return;
  if (user === null && needs === "user") {
    closeDialogs();
    say(tx("ended"), "warn");
    go("login");
  }
  if (user !== null && present() === "login") go("overview", { replaces: true });
});

// The back button may show the page as it was, and the session may have ended meanwhile.
window.addEventListener("pageshow", ({ persisted }) => {
  if (persisted && VIEWS[present()].needs === "user") location.reload();
});
