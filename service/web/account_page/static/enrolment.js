// Setting up an authenticator: the QR code, the key for typing it in, and the first code.

import { codeField } from "./code-step.js";
import { h } from "./dom.js";
import { form } from "./forms.js";
import { tx } from "./i18n.js";
import { loaded } from "./loaded.js";
import { keyturn } from "./session.js";

/** Draw a picture on a canvas: an image element would need an exception in the policy, and cannot send a token. */
async function draw(blob) {
  const picture = await createImageBitmap(blob);
  const canvas = h("canvas", {
    width: picture.width, height: picture.height, role: "img", "aria-label": tx("enrol.picture"),
  });
  canvas.getContext("2d").drawImage(picture, 0, 0);
  return h("div", { class: "qr" }, canvas);
}

/** The steps of an enrolment of the pending token. `act` gets the first code. */
export function enrolment({ username, act }) {
  return h("div", { class: "stack" },
    loaded(async () => {
      const [picture, shown] = await Promise.all([
        keyturn.qrCode({ type: "image/png", username }), keyturn.enrolmentSecret({ username }),
      ]);
      return [
        await draw(picture),
        h("p", {}, h("a", { href: shown.provisioning_uri }, tx("enrol.open"))),
        h("details", {},
          h("summary", {}, tx("enrol.by_hand")),
          h("p", { class: "muted small" }, tx("enrol.by_hand.hint")),
          h("p", { class: "secret" }, shown.secret.replace(/(.{4})(?=.)/g, "$1 ")),
        ),
      ];
    }),
    form({
      fields: [codeField({ label: tx("field.first_code") })],
      submit: tx("enrol.submit"),
      where: "code",
      act,
    }).element,
  );
}
