// A User-Agent in short, for lists of sessions. It is what a program says about itself: a hint and no proof.

const BROWSERS = [
  [/\bEdgA?\/|\bEdg\//, "Edge"], [/\bOPR\//, "Opera"], [/\bSamsungBrowser\//, "Samsung Internet"],
  [/\bFirefox\/|\bFxiOS\//, "Firefox"], [/\b(?:Headless)?Chrom(?:e|ium)\/|\bCriOS\//, "Chrome"],
  [/\bVersion\/.*\bSafari\//, "Safari"],
];
const SYSTEMS = [
  [/\b(?:iPhone|iPod)\b/, "iPhone"], [/\biPad\b/, "iPad"], [/\bAndroid\b/, "Android"], [/\bCrOS\b/, "ChromeOS"],
  [/\bWindows\b/, "Windows"], [/\bMac OS X\b/, "macOS"], [/\bLinux\b/, "Linux"],
];

const MAX_LENGTH = 80;

/** "Firefox, Windows"; for other programs the beginning of what they say. */
export function describe(userAgent) {
  const find = (table) => table.find(([pattern]) => pattern.test(userAgent))?.[1];
  const browser = /^Mozilla\//.test(userAgent) ? find(BROWSERS) : undefined;
  if (browser !== undefined) return [browser, find(SYSTEMS)].filter(Boolean).join(", ");
  return userAgent.length > MAX_LENGTH ? `${userAgent.slice(0, MAX_LENGTH)}…` : userAgent;
}
