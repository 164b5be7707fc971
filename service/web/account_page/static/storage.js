// What the browser stores between two visits, or until the tab is closed. If it stores nothing, the page works too.

const prefixed = (name) => `keyturn.${name}`;

/** What was written, for this tab or for good. */
export function read(name) {
  try {
    return sessionStorage.getItem(prefixed(name)) ?? localStorage.getItem(prefixed(name));
  } catch {
    return null;
  }
}

export function forget(name) {
  try {
    sessionStorage.removeItem(prefixed(name));
    localStorage.removeItem(prefixed(name));
  } catch {
    // Nothing is kept here.
  }
}

/** Keep a text; with `inTab` only until the tab is closed, because others may use the same device. */
export function write(name, value, { inTab = false } = {}) {
  try {
    (inTab ? sessionStorage : localStorage).setItem(prefixed(name), value);
  } catch {
    // Private windows and blocked storage: the page works without it.
  }
}
