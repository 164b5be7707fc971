// `?return_to=URL`: the application that sent the user here. Only origins that the operator names are taken.

import { config } from "./config.js";

/** The URL to return to, or null: an http(s) URL of a named origin, without a user and a password in it. */
export function target(search = location.search) {
  const text = new URLSearchParams(search).get("return_to");
  if (text === null || !URL.canParse(text)) return null;
  const url = new URL(text);
  const isNamed = config.returnOrigins.includes(url.origin) && ["http:", "https:"].includes(url.protocol);
  return isNamed && url.username === "" && url.password === "" ? url : null;
}
