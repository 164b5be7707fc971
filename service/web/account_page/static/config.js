// What the service says about itself, and where it is.

const text = document.querySelector('meta[name="keyturn"]').content;

/** See `config_of` in routes.py. */
export const config = Object.freeze(JSON.parse(text));

/** The URL of the service, without a slash at its end: the page is at `<service>/account/`. */
export const service = new URL("..", new URL("./", document.baseURI)).href.replace(/\/$/, "");
