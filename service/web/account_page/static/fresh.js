// Operations that need a fresh proof: the page asks for a code, or, without a second factor, for the password.

import { codeStep } from "./code-step.js";
import { ask } from "./dialog.js";
import { form, hiddenUsername, passwordField } from "./forms.js";
import { tx } from "./i18n.js";
import { giveCode, keyturn, logIn } from "./session.js";

/** Run `action`; if the service asks for a fresh proof, get one from the user and run it again. */
export async function fresh(action) {
  try {
    return await action();
  } catch (error) {
    if (error.code !== "insufficient_user_authentication") throw error;
  }
  await prove();
  return action();
}

async function prove() {
  try {
    await proveByCode(await keyturn.stepUp());
  } catch (error) {
    if (error.code !== "mfa_not_enabled") throw error;
    await proveByPassword();
  }
}

function proveByCode({ methods }) {
  return ask({
    title: tx("fresh.title"),
    text: tx("fresh.code"),
    content: (done) => codeStep({
      methods, submit: tx("fresh.submit"), act: async (code) => done(await giveCode(code)),
    }),
  });
}

/** Log in again, and end the session that this replaces. */
function proveByPassword() {
  const { username, sid } = keyturn.user;
  return ask({
    title: tx("fresh.title"),
    text: tx("fresh.password"),
    content: (done) => form({
      before: [hiddenUsername(username)],
      fields: [passwordField()],
      submit: tx("fresh.submit"),
      where: "own_password",
      act: async ({ password }) => {
        await logIn(username, password);
        if (keyturn.user.sid !== sid) await keyturn.endSession(sid).catch(() => {});
        done();
      },
    }).element,
  });
}
