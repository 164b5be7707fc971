// What the browser remembers between two visits. A browser that keeps nothing is no error.

export function read(name) {
  try {
    return localStorage.getItem(`keyturn.${name}`);
  } catch {
    return null;
  }
}

export function write(name, value) {
  try {
    if (value === null) localStorage.removeItem(`keyturn.${name}`);
    else localStorage.setItem(`keyturn.${name}`, value);
  } catch {
    // Private windows and blocked storage: the page works without it.
  }
}
