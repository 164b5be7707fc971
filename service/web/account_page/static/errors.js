// Every refusal as a sentence that says what to do now, in the language of the page.

import { duration, has, t } from "./i18n.js";

const PASSWORDS = ["password", "new_password"];
const FIELDS = {
  breached_password: PASSWORDS,
  email_taken: ["email"],
  invalid_code: ["otp", "recovery_code"],
  "invalid_credentials.own_password": ["password", "current_password"],
  username_taken: ["username"],
  weak_password: PASSWORDS,
};

const REASONS = [
  [/^The password must not be the username/, "weak.username"],
  [/^This is a commonly used password/, "weak.common"],
];

/**
 * Return the sentence of an error as a function, which follows the language. `where` names the form: a refusal may
 * mean something else there, as an expired token does for a link and for a login.
 */
export function sentence(error, where = "") {
  return () => {
    const code = error.code ?? "unknown";
    if (code === "weak_password") return weakPassword(error.detail ?? "");
    if (code === "code_out_of_step") return outOfStep(error.problem ?? {});
    if (code === "invalid_code" && !error.retryAfter && has("error.invalid_code.recovery")) {
      return t("error.invalid_code.recovery");
    }
    for (const key of [`error.${code}.${where}`, `error.${code}`]) {
      if (has(key)) return t(key);
    }
    return t("error.unknown", { code });
  };
}

function weakPassword(detail) {
  const lengths = detail.match(/\d+/g) ?? [];
  if (lengths.length > 1) return t("weak.short_alone", { length: lengths[0], with: lengths[1] });
  if (lengths.length === 1) return t("weak.short", { length: lengths[0] });
  const found = REASONS.find(([pattern]) => pattern.test(detail));
  return found === undefined ? detail || t("error.weak_password") : t(found[1]);
}

/** The step of a code. A clock that differs by no more is right: what was remembered about it differs. */
const STEP_SECONDS = 30;

function outOfStep({ offset_seconds: offset = 0 }) {
  if (Math.abs(offset) <= STEP_SECONDS) return t("error.code_out_of_step.corrected");
  return t(offset < 0 ? "error.code_out_of_step.behind" : "error.code_out_of_step.ahead", { time: duration(offset) });
}

/** Whether the same request may succeed later without a change: the form then waits instead of the user. */
export function mustWait(error) {
  return error.retryAfter > 0 && (error.status === 429 || error.status === 503);
}

/** The fields that the service refused, each with the key of its sentence, or null where the form's sentence says it. */
export function fieldsOf(error, where = "") {
  const fields = FIELDS[`${error.code}.${where}`] ?? FIELDS[error.code];
  if (fields !== undefined) return fields.map((field) => [field, null]);
  const keyOf = (field) => (has(`invalid.${field}`) ? `invalid.${field}` : "invalid.other");
  return (error.errors ?? []).map(({ field }) => [field, keyOf(field)]);
}
