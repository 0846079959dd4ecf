/** The viewer: a film with its overlay, tools, pointer and keys. */
import { button, drawing, element } from "./dom.js";
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
    beside.hidden = matchMedia("(max-width: 600px)").matches;
    this.pointers = new Map();
    const canvas = element("canvas");
    const svg = drawing("svg.overlay", { "aria-hidden": "true" });
    this.box = element("div.film", { tabindex: 0, role: "application" }, canvas, svg);
    this.film = new Film(this.box, canvas, () => (this.overlay.place(), this.showTools()));
    this.overlay = new Overlay(svg, this.film, (bone) => this.moved || this.onBone(bone));
    this.tools = element("div.tools", { role: "toolbar" });
    this.help = element("details.keys");
    const films = element("div.films", this.box, beside);
    this.node = element("section.stage", this.tools, films, this.help);
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

  /** Mark a bone, and bring it into view where the film is zoomed past it. */
  select(bone) {
    this.overlay.select(bone);
    const away = this.film.pixels && this.overlay.outOfView(bone);
    if (away) this.film.moveBy(...away);
  }

  render() {
    const { film, overlay } = this;
    this.box.setAttribute("aria-label", say("viewer"));
    this.tools.setAttribute("aria-label", say("tools"));
    this.help.replaceChildren(element("summary", say("keys_title")), element("p", say("keys_text")));
    const tool = (key, act, text = say(key)) => button(text, act, { "aria-label": say(key) });
    this.drag = button(say("drag_windows"), () => this.swapDrag());
    this.inverter = button(say("invert"), () => film.invert());
    this.level = slider(0, 65535, (value) => film.setWindow(value, film.width));
    this.width = slider(256, 65536, (value) => film.setWindow(film.level, value));
    this.layers = {};
    for (const layer of Object.keys(LAYERS)) this.layers[layer] = box((on) => overlay.toggle(layer, on));
    this.plates = box((on) => (this.beside.hidden = !on));
    const layerChecks = Object.entries(LAYERS).map(([layer, key]) => [this.layers[layer], key]);
    const checks = [...layerChecks, [this.plates, "show_atlas"]];
    const out = tool("zoom_out", () => film.zoomBy(1 / ZOOM), "\u2212");
    const groups = [
      [out, tool("zoom_in", () => film.zoomBy(ZOOM), "+"), tool("fit", () => film.fit())],
      [this.drag, this.inverter, tool("reset_window", () => film.resetWindow())],
      [element("label", say("level"), this.level), element("label", say("width"), this.width)],
      checks.map(([input, key]) => element("label", input, say(key))),
    ];
    this.tools.replaceChildren(...groups.map((group) => element("span.group", group)));
    this.showTools();
  }

  /** Let the tools tell what the film and the overlay are like. */
  showTools() {
    if (!this.drag) return;
    this.drag.setAttribute("aria-pressed", String(Boolean(this.windowing)));
    this.inverter.setAttribute("aria-pressed", String(this.film.inverted));
    this.level.value = this.film.level ?? 0;
    this.width.value = this.film.width ?? 0;
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
    for (const type of ["pointerup", "pointercancel"]) {
      box.addEventListener(type, (event) => this.pointers.delete(event.pointerId));
    }
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
    const other = [...this.pointers.values()].find(({ pointerId }) => pointerId !== event.pointerId);
    const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    const { left, top } = this.box.getBoundingClientRect();
    const [x, y] = [(event.clientX + other.clientX) / 2 - left, (event.clientY + other.clientY) / 2 - top];
    this.film.zoomBy(apart(event) / Math.max(1, apart(before)), x, y);
  }

  dragWindow(dx, dy) {
    this.film.setWindow(this.film.level + dy * DRAG_LEVELS, this.film.width + dx * DRAG_LEVELS);
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || !this.film.pixels) return;
    const arrow = event.key.startsWith("Arrow");
    const act = this.keys()[arrow ? (event.shiftKey ? "Shift" : "") + event.key : event.key.toLowerCase()];
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

function slider(min, max, act) {
  const oninput = ({ target }) => act(Number(target.value));
  return element("input", { type: "range", min, max, step: 128, oninput });
}

function box(act) {
  return element("input", { type: "checkbox", onchange: ({ target }) => act(target.checked) });
}
