// Runs a browser for harness/chromium.py: each line on standard input is a step, each line of output its result.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { chromium, firefox } from "playwright-core";

const [engine, executablePath] = process.argv.slice(2);
const browser = engine === "firefox"
  ? await firefox.launch({ executablePath, channel: "moz-firefox" }) // a Firefox of Mozilla's, by WebDriver BiDi
  : await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
const axe = readFileSync(new URL("./node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const profiles = new Map();

// For a picture of the screen in Firefox, playwright-core inserts the style sheet `body {}`. The policy of the page
// blocks it: these are the hash of it, and what the listener below says of a style sheet that is blocked.
const OF_SCREENSHOTS = ["'sha256-YjaKGiklmzC6wjXA513HAMmzus8VE61XCOT+SmwNZWA='", "policy: style-src-elem inline "];
const isOfScreenshot = (text) => engine === "firefox" && OF_SCREENSHOTS.some((part) => text.includes(part));

/**
 * A profile has cookies and storage of its own, one page, a list of what must not happen in it (`faults`), and an
 * object in which its steps leave values for later ones (`kept`).
 */
async function open(name, options) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, locale: "en-GB", ...options });
  context.setDefaultTimeout(20_000);
  const page = await context.newPage();
  const faults = [];
  const report = (text) => isOfScreenshot(text) || faults.push(text);
  page.on("pageerror", (error) => report(`${error.stack}`)); // in Firefox also what the policy blocks
  page.on("console", (message) => {
    // The browser itself reports every refusal (401, 422) as an error.
    const isRefusal = message.text().startsWith("Failed to load resource: the server responded");
    if (["error", "warning"].includes(message.type()) && !isRefusal) report(message.text());
  });
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => {
      console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
    });
  });
  const profile = { context, page, faults, kept: {} };
  profiles.set(name, profile);
  return profile;
}

/** The violations of accessibility rules in the present view, each with the elements. */
async function violations(page) {
  await page.evaluate(axe);
  const { violations: found } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return found.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join(" | ")}`);
}

const Step = (async () => {}).constructor;

async function run({ profile, options, script, values }) {
  if (script === null) {
    await profiles.get(profile)?.context.close();
    return null;
  }
  const { context, page, faults, kept } = profiles.get(profile) ?? await open(profile, options);
  return new Step("page", "context", "faults", "values", "violations", "kept", script)(page, context, faults, values, violations, kept);
}

/** An error, with what the user sees at this moment. */
async function told(error, { profile }) {
  const page = profiles.get(profile)?.page;
  const seen = await page?.locator("body").innerText({ timeout: 1000 }).catch(() => "");
  return { error: `${error.stack}\n\n${page?.url()}\n${seen}\n${profiles.get(profile)?.faults.join("\n")}` };
}

for await (const line of createInterface({ input: process.stdin })) {
  const step = JSON.parse(line);
  const answer = await run(step).then((result) => ({ result: result ?? null }), (error) => told(error, step));
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
