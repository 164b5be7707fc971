// Building the document: by createElement and textContent only, so that no text of a user can become markup.

const live = new WeakMap(); // from a text or an attribute of an element to the functions that write it again

/**
 * Make an element. A property that begins with "on" is a listener, `class` and others are attributes; one that is null
 * or false is left out. A function in place of a text is called now, and again when the language changes.
 */
export function h(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (typeof value === "function") keep(element, () => element.setAttribute(key, value()));
    else element.setAttribute(key, value === true ? "" : value);
  }
  add(element, children);
  return element;
}

export function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(typeof child === "function" ? liveText(child) : child);
  }
  return element;
}

export function put(element, ...children) {
  element.replaceChildren();
  return add(element, children);
}

/** Write all texts again, in the current language. What the user has typed stays. */
export function rewrite(root = document) {
  for (const write of live.get(root) ?? []) write();
  for (const child of root.childNodes) rewrite(child);
}

function liveText(read) {
  const node = document.createTextNode("");
  keep(node, () => { node.data = read() ?? ""; });
  return node;
}

function keep(node, write) {
  live.set(node, [...(live.get(node) ?? []), write]);
  write();
}

let made = 0;

/** An id that no other element has. */
export function newId(what) {
  made += 1;
  return `${what}-${made}`;
}

const SVG = "http://www.w3.org/2000/svg";

/** The mark beside the name: a key, in the colours of the style. */
export function mark() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "4 6 24 20");
  svg.setAttribute("aria-hidden", "true");
  const circle = document.createElementNS(SVG, "circle");
  for (const [name, value] of [["cx", "11"], ["cy", "16"], ["r", "5"]]) circle.setAttribute(name, value);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", "M16 16h11v4M22 16v3.4");
  svg.append(circle, path);
  return h("span", { class: "mark" }, svg);
}

let announcer = null;

/** Let screen readers read a sentence, without a change of what is seen. */
export function announce(text) {
  if (announcer === null) {
    announcer = h("div", { class: "unseen", role: "status" });
    document.body.append(announcer);
  }
  announcer.textContent = "";
  setTimeout(() => { announcer.textContent = text; }, 50);
}
