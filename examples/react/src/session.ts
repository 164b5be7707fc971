/** The session of this application, which has another origin than Keyturn and the same origin as /shop. */

import { useSyncExternalStore } from "react";
import { createKeyturn } from "./keyturn.js";

export const keyturn = createKeyturn({
  issuer: "http://localhost:8000",
  session: "cookie",
  origins: [location.origin],
});

/** Return the user: `null` if nobody is logged in, `undefined` before that is known. */
export function useUser() {
  return useSyncExternalStore(keyturn.onChange, () => keyturn.user);
}
