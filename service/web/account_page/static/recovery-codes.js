// Recovery codes are shown once: the user copies, downloads or prints them, and says so.

import { announce, h } from "./dom.js";
import { config } from "./config.js";
import { check, form } from "./forms.js";
import { t, tx } from "./i18n.js";

/** The codes, the three ways to keep them, and a form that `act`s when the user has done so. */
export function recoveryCodes(codes, { username, act }) {
  const text = () => [`${config.name}: ${username}`, t("codes.file"), "", ...codes, ""].join("\n");
  const copied = h("span", { class: "muted small" });

  async function copy() {
    try {
      await navigator.clipboard.writeText(text());
      copied.textContent = t("codes.copied");
    } catch {
      copied.textContent = t("codes.not_copied");
    }
    announce(copied.textContent);
  }

  function download() {
    const url = URL.createObjectURL(new Blob([text()], { type: "text/plain" }));
    h("a", { href: url, download: "recovery-codes.txt" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  const button = (key, onclick) => h("button", { type: "button", class: "quiet small-button", onclick }, tx(key));
  const saved = check("saved", { label: tx("codes.saved") });
  saved.input.required = true;
  return h("div", { class: "stack" },
    h("p", {}, tx("codes.text")),
    h("ol", { class: "codes", "aria-label": tx("codes.title") }, codes.map((code) => h("li", {}, code))),
    h("div", { class: "row" },
      button("codes.copy", copy), button("codes.download", download), button("codes.print", () => window.print()),
      copied),
    form({
      fields: [saved],
      submit: tx("codes.continue"),
      act: async ({ saved: isSaved }) => {
        if (!isSaved) throw Object.assign(new Error("not saved"), { code: "codes_not_saved" });
        await act();
      },
    }).element,
  );
}
