/** Small helpers to make elements and to speak to screen readers. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Return an HTML element, as `element("p.soft", { id: "x", onclick: act }, "text", child)`.
 * A function among the attributes listens; what is null, undefined or false is left out.
 */
export function element(tag, ...content) {
  return filled((name) => document.createElement(name), tag, content);
}

/** Return a button that does `act`; attributes as `element`. */
export function button(text, act, attributes = {}) {
  return element("button", { type: "button", onclick: act, ...attributes }, text);
}

/** Return an SVG element; as `element`. */
export function drawing(tag, ...content) {
  return filled((name) => document.createElementNS(SVG, name), tag, content);
}

function filled(make, tag, content) {
  const [name, ...classes] = tag.split(".");
  const node = make(name);
  if (classes.length) node.setAttribute("class", classes.join(" "));
  const given = content[0]?.constructor === Object ? content.shift() : {};
  for (const [attribute, value] of Object.entries(given)) {
    if (typeof value === "function") node.addEventListener(attribute.slice(2), value);
    else if (isSome(value)) node.setAttribute(attribute, value === true ? "" : value);
  }
  node.append(...content.flat().filter(isSome));
  return node;
}

function isSome(value) {
  return value !== null && value !== undefined && value !== false;
}

/** Return the page's element with an id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Let screen readers say a text. */
export function announce(text) {
  byId("announcer").textContent = text;
}

/** Show a problem in its place, or hide the place when there is none. */
export function showProblem(place, text) {
  place.textContent = text ?? "";
  place.hidden = !text;
}

/** Return after some milliseconds, or when `signal` is aborted. */
export function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

/** Ask a question in a dialog; resolves to whether it was confirmed. */
export function confirmed(question, action) {
  const dialog = byId("confirm-dialog");
  byId("confirm-text").textContent = question;
  byId("confirm-yes").textContent = action;
  return new Promise((resolve) => {
    const settle = (answer) => () => (dialog.close(), resolve(answer));
    byId("confirm-yes").onclick = settle(true);
    byId("confirm-no").onclick = settle(false);
    dialog.oncancel = () => resolve(false);
    dialog.showModal();
    byId("confirm-no").focus();
  });
}
