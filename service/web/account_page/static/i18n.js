// The language of the page: the sentences, and dates and numbers in its form.

import { config } from "./config.js";
import { rewrite } from "./dom.js";
import * as storage from "./storage.js";

const FALLBACK = config.languages[0];

let language = FALLBACK;
let region = FALLBACK;
let sentences = {};
let fallback = {};

/** The language that the user chose here, else the first of the browser's that the page has. */
function preferred() {
  const wanted = [storage.read("language"), ...navigator.languages].filter(Boolean);
  for (const tag of wanted) {
    const base = tag.toLowerCase().split("-")[0];
    if (config.languages.includes(base)) return base;
  }
  return FALLBACK;
}

async function load(name) {
  try {
    const answer = await fetch(new URL(`./i18n/${name}.json`, import.meta.url));
    if (!answer.ok) throw new Error(`${answer.status}`);
    return await answer.json();
  } catch (cause) {
    throw Object.assign(new Error(`no sentences for ${name}`, { cause }), { code: "language_not_loaded" });
  }
}

export async function start() {
  const wanted = preferred();
  fallback = await load(FALLBACK);
  try {
    sentences = wanted === FALLBACK ? fallback : await load(wanted);
    language = wanted;
  } catch {
    sentences = fallback;
  }
  mark();
}

/** Change the language. Every text is written again in place: nothing that was typed is lost. */
export async function choose(name) {
  sentences = name === FALLBACK ? fallback : await load(name);
  language = name;
  storage.write("language", name);
  mark();
  rewrite();
}

/** Set the language of the document, and the region for dates: "en" of a browser in Britain is "en-GB". */
function mark() {
  region = navigator.languages.find((tag) => tag.toLowerCase().split("-")[0] === language) ?? language;
  document.documentElement.lang = language;
  document.documentElement.dir = t("direction");
}

export function current() {
  return language;
}

export function has(key) {
  return key in fallback;
}

/** The sentence with this key. `{name}` in it is replaced by a value. */
export function t(key, values = {}) {
  const found = sentences[key] ?? fallback[key] ?? key;
  const text = Array.isArray(found) ? found.join(" ") : found;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** The same as a function, for texts that follow the language. A value may be a function, too. */
export function tx(key, values = {}) {
  return () => t(key, Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, typeof value === "function" ? value() : value]),
  ));
}

export function languageName(name) {
  const own = new Intl.DisplayNames([name], { type: "language" }).of(name);
  return own.charAt(0).toLocaleUpperCase(name) + own.slice(1);
}

export function moment(seconds) {
  return new Intl.DateTimeFormat(region, { dateStyle: "medium", timeStyle: "short" }).format(new Date(seconds * 1000));
}

export function day(seconds) {
  return new Intl.DateTimeFormat(region, { dateStyle: "long" }).format(new Date(seconds * 1000));
}

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

/** A duration in its largest unit, with the plural of the language: "12 seconds". */
export function duration(seconds) {
  const rounded = Math.max(0, Math.round(Math.abs(seconds)));
  const [unit, size] = UNITS.find(([, least]) => rounded >= least) ?? ["second", 1];
  return new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "long", maximumFractionDigits: 0 })
    .format(Math.round(rounded / size));
}
