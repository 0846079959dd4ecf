/** The viewer: a film with its overlay, tools, pointer and keys. */
import { drawing, element } from "./dom.js";
import { Film } from "./film.js";
import { Overlay } from "./overlay.js";
import { inEachLanguage, say } from "./words.js";

const STEP = 40;
const ZOOM = 1.25;
const WINDOW_STEP = 1600;
const DRAG_LEVELS = 90;
const CLICK = 4;
const LAYERS = { regions: "show_regions", box: "show_box", points: "show_points" };

/** A viewer; `onBone` is called with a bone chosen on the film, `beside` is shown right of it. */
export class Viewer {
  constructor({ onBone, beside, signal }) {
    this.onBone = onBone;
    this.beside = beside;
    this.pointers = new Map();
    const canvas = element("canvas", {});
    const svg = drawing("svg", { class: "overlay", "aria-hidden": "true" });
    this.box = element("div", { class: "film", tabindex: 0, role: "application" }, canvas, svg);
    this.film = new Film(this.box, canvas, () => (this.overlay.place(), this.showTools()));
    this.overlay = new Overlay(svg, this.film, (bone) => this.moved || this.onBone(bone));
    this.tools = element("div", { class: "tools", role: "toolbar" });
    this.help = element("details", { class: "keys" });
    this.node = element("section", { class: "stage" }, this.tools, element("div", { class: "films" }, this.box, beside), this.help);
    this.listen();
    inEachLanguage(() => this.render(), signal);
  }

  /** Show pixels as `Film.show` takes them, with a result's regions over them. */
  show(pixels, result) {
    this.film.show(pixels);
    this.overlay.setResult(result, pixels.scale);
    this.bones = result.regions.map((region) => region.bone);
    this.showTools();
  }

  render() {
    this.box.setAttribute("aria-label", say("viewer"));
    this.tools.setAttribute("aria-label", say("tools"));
    this.help.replaceChildren(element("summary", {}, say("keys_title")), element("p", {}, say("keys_text")));
    const film = this.film;
    const button = (key, act, text = say(key)) => element("button", { type: "button", onclick: act, "aria-label": say(key) }, text);
    this.drag = element("button", { type: "button", onclick: () => this.swapDrag() });
    this.inverter = element("button", { type: "button", onclick: () => film.invert() }, say("invert"));
    this.sliders = {
      level: this.slider("level", 0, 65535, () => film.setWindow(Number(this.sliders.level.value), film.width)),
      width: this.slider("width", 256, 65536, () => film.setWindow(film.level, Number(this.sliders.width.value))),
    };
    this.layers = Object.fromEntries(Object.entries(LAYERS).map(([layer, key]) => [layer, this.check(key, (on) => this.overlay.toggle(layer, on))]));
    this.plates = this.check("show_atlas", (on) => (this.beside.hidden = !on));
    this.tools.replaceChildren(
      element("span", { class: "group" }, button("zoom_out", () => film.zoomBy(1 / ZOOM), "\u2212"), button("zoom_in", () => film.zoomBy(ZOOM), "+"), button("fit", () => film.fit())),
      element("span", { class: "group" }, this.drag, this.inverter, button("reset_window", () => film.resetWindow())),
      element("span", { class: "group" }, ...Object.values(this.sliders).map((input) => input.closest("label"))),
      element("span", { class: "group" }, ...[...Object.values(this.layers), this.plates].map((input) => input.closest("label"))),
    );
    this.showTools();
  }

  slider(key, min, max, act) {
    const input = element("input", { type: "range", min, max, step: 128, oninput: act });
    element("label", {}, element("span", {}, say(key)), input);
    return input;
  }

  check(key, act) {
    const input = element("input", { type: "checkbox", onchange: () => act(input.checked) });
    element("label", {}, input, element("span", {}, say(key)));
    return input;
  }

  /** Let the tools tell what the film and the overlay are like. */
  showTools() {
    if (!this.drag) return;
    this.drag.textContent = say(this.windowing ? "drag_windows" : "drag_moves");
    this.drag.setAttribute("aria-pressed", String(Boolean(this.windowing)));
    this.inverter.setAttribute("aria-pressed", String(this.film.inverted));
    this.sliders.level.value = this.film.level ?? 0;
    this.sliders.width.value = this.film.width ?? 0;
    Object.entries(this.layers).forEach(([layer, input]) => (input.checked = this.overlay.shown[layer]));
    this.plates.checked = !this.beside.hidden;
  }

  swapDrag() {
    this.windowing = !this.windowing;
    this.showTools();
  }

  listen() {
    const box = this.box;
    box.addEventListener("contextmenu", (event) => event.preventDefault());
    box.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    box.addEventListener("pointerdown", (event) => this.down(event));
    box.addEventListener("pointermove", (event) => this.move(event));
    for (const type of ["pointerup", "pointercancel"]) box.addEventListener(type, (event) => this.pointers.delete(event.pointerId));
    box.addEventListener("keydown", (event) => this.key(event));
  }

  wheel(event) {
    if (!this.film.pixels) return;
    event.preventDefault();
    const edge = this.box.getBoundingClientRect();
    this.film.zoomBy(ZOOM ** (-event.deltaY / 100), event.clientX - edge.left, event.clientY - edge.top);
  }

  down(event) {
    this.moved = false;
    this.travel = 0;
    this.pointers.set(event.pointerId, event);
    this.box.focus({ preventScroll: true });
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before || !this.film.pixels) return;
    const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
    this.travel += Math.abs(dx) + Math.abs(dy);
    if (this.travel < CLICK && this.pointers.size === 1) return;
    // Captured only once it is a drag, so that a click still reaches the region under it.
    if (!this.moved) this.box.setPointerCapture(event.pointerId);
    this.moved = true;
    if (this.pointers.size > 1) this.pinch(event, before);
    else if ((event.buttons & 2) !== 0 || this.windowing) this.dragWindow(dx, dy);
    else this.film.moveBy(dx, dy);
    this.pointers.set(event.pointerId, event);
  }

  pinch(event, before) {
    const other = [...this.pointers.values()].find((pointer) => pointer.pointerId !== event.pointerId);
    const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    const edge = this.box.getBoundingClientRect();
    const middle = [(event.clientX + other.clientX) / 2 - edge.left, (event.clientY + other.clientY) / 2 - edge.top];
    this.film.zoomBy(apart(event) / Math.max(1, apart(before)), ...middle);
  }

  dragWindow(dx, dy) {
    this.film.setWindow(this.film.level + dy * DRAG_LEVELS, this.film.width + dx * DRAG_LEVELS);
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || !this.film.pixels) return;
    const act = this.keys()[event.shiftKey && event.key.startsWith("Arrow") ? `Shift${event.key}` : event.key.toLowerCase()] ?? this.keys()[event.key];
    if (!act) return;
    event.preventDefault();
    act();
    this.showTools();
  }

  keys() {
    const film = this.film;
    const wider = (level, width) => () => film.setWindow(film.level + level, film.width + width);
    return {
      ArrowLeft: () => film.moveBy(STEP, 0),
      ArrowRight: () => film.moveBy(-STEP, 0),
      ArrowUp: () => film.moveBy(0, STEP),
      ArrowDown: () => film.moveBy(0, -STEP),
      ShiftArrowLeft: wider(0, -WINDOW_STEP),
      ShiftArrowRight: wider(0, WINDOW_STEP),
      ShiftArrowUp: wider(-WINDOW_STEP, 0),
      ShiftArrowDown: wider(WINDOW_STEP, 0),
      "+": () => film.zoomBy(ZOOM),
      "=": () => film.zoomBy(ZOOM),
      "-": () => film.zoomBy(1 / ZOOM),
      0: () => film.fit(),
      i: () => film.invert(),
      w: () => this.swapDrag(),
      r: () => film.resetWindow(),
      g: () => this.overlay.toggle("regions"),
      b: () => this.overlay.toggle("box"),
      k: () => this.overlay.toggle("points"),
      a: () => (this.beside.hidden = !this.beside.hidden),
      "[": () => this.step(-1),
      "]": () => this.step(1),
    };
  }

  // The film keeps the focus: who steps through the bones is looking at it.
  step(by) {
    const place = this.bones.indexOf(this.overlay.bone);
    const count = this.bones.length;
    if (count) this.onBone(this.bones[place < 0 ? 0 : (place + by + count) % count], { focus: false });
  }
}
