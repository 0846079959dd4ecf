/** Small helpers to make elements and to speak to screen readers. */

const SVG = "http://www.w3.org/2000/svg";

/** Return an HTML element; a function among the attributes listens, as `onclick`; null and false are left out. */
export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** Return an SVG element; as `element`. */
export function drawing(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
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
