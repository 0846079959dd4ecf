/** What is drawn over the film: bones with their grades, the hand's box, the key points. */
import { drawing } from "./dom.js";
import { boneText } from "./format.js";

const CORNER = 3;
const POINT = 3;
const GAP = 5;
// Their names stand on the little finger's side, the others' on the thumb's, where no graded bone is hidden.
const OUTER = ["ulna", "hamate", "mc5", "pp5", "mp5", "dp5"];

/** Marks over a film, in an SVG element as large as it; `onBone` is called with a bone that was clicked. */
export class Overlay {
  constructor(svg, film, onBone) {
    Object.assign(this, { svg, film, onBone });
    this.shown = { regions: true, box: false, points: false };
    this.groups = [];
    this.bone = null;
  }

  /** Take the regions and the hand of a result; `scale` is source pixels for one of the film's. */
  setResult({ regions, hand }, scale) {
    this.scale = scale;
    // Some bones share a box, as a metacarpal and its phalanx at one joint; they are marked once.
    this.groups = [...byBox(regions).values()].map((group) => this.region(group));
    this.box = drawing("rect.hand-box");
    this.boxPx = hand.box_px;
    const { thumb4, pinky_finger4: little } = hand.keypoints_px;
    this.thumbRight = !thumb4 || !little || thumb4[0] > little[0];
    this.points = [...Object.values(hand.keypoints_px), ...Object.values(hand.epiphyses_px)].map((point) => ({
      point,
      node: drawing("circle.key-point", { r: POINT }),
    }));
    this.svg.replaceChildren(this.box, ...[...this.points, ...this.groups].map(({ node }) => node));
    this.place();
  }

  region(group) {
    const bones = group.map((region) => region.bone);
    const rects = ["rect.under", "rect.edge"].map((tag) => drawing(tag, { rx: CORNER }));
    const [text, title] = [drawing("text"), drawing("title")];
    const attributes = { "data-bones": bones.join(" "), onclick: () => this.clicked(bones) };
    const node = drawing("g.region", attributes, title, ...rects, text);
    return { node, rects, text, title, bones, boxPx: group[0].box_px, outer: OUTER.includes(bones[0]) };
  }

  clicked(bones) {
    this.onBone(bones[(bones.indexOf(this.bone) + 1) % bones.length]);
  }

  /** Write the grades: bone -> {text, changed}; a bone without one is not graded by the standard shown. */
  setGrades(grades) {
    for (const { bones, text, title, node } of this.groups) {
      const graded = bones.filter((bone) => grades[bone]);
      text.textContent = graded.map((bone) => `${shortName(bone)} ${grades[bone].text}`).join(" · ");
      title.textContent = graded.map((bone) => `${boneText(bone)}: ${grades[bone].text}`).join("\n");
      node.classList.toggle("changed", graded.some((bone) => grades[bone].changed));
      node.classList.toggle("absent", graded.length === 0);
    }
    this.place();
  }

  /** Mark the bone that is being read. */
  select(bone) {
    this.bone = bone;
    for (const { bones, node } of this.groups) node.classList.toggle("selected", bones.includes(bone));
    const chosen = this.groups.find(({ bones }) => bones.includes(bone));
    if (chosen) this.svg.append(chosen.node);
    // Its name grows, and may now need the other side.
    this.place();
  }

  /** Return how far the film must move to have a bone in the middle, null where it can be seen. */
  outOfView(bone) {
    const region = this.groups.find(({ bones }) => bones.includes(bone));
    if (!region) return null;
    const [x0, y0, x1, y1] = region.boxPx;
    const [x, y] = this.onScreen((x0 + x1) / 2, (y0 + y1) / 2);
    const { clientWidth: width, clientHeight: height } = this.film.box;
    const seen = x > 0 && y > 0 && x < width && y < height;
    return seen ? null : [width / 2 - x, height / 2 - y];
  }

  /** Show or hide `regions`, `box` or `points`; returns whether they are shown then. */
  toggle(what, shown = !this.shown[what]) {
    this.shown[what] = shown;
    this.place();
    return shown;
  }

  /** Put every mark where the film now is. */
  place() {
    if (!this.box) return;
    this.frame([this.box], this.boxPx);
    this.box.classList.toggle("absent", !this.shown.box);
    for (const { point, node } of this.points) {
      const [x, y] = this.onScreen(...point);
      node.setAttribute("cx", x);
      node.setAttribute("cy", y);
      node.classList.toggle("absent", !this.shown.points);
    }
    for (const { node } of this.groups) node.classList.toggle("hidden", !this.shown.regions);
    // All are measured before any is moved, so that the browser lays them out once.
    const lengths = this.groups.map(({ text }) => text.getComputedTextLength());
    for (const [index, { rects, text, boxPx, outer }] of this.groups.entries()) {
      const [x, y, wide, high] = this.frame(rects, boxPx);
      const own = outer ? !this.thumbRight : this.thumbRight;
      const right = this.isRight(own, x, wide, lengths[index]);
      text.setAttribute("x", right ? x + wide + GAP : x - GAP);
      text.setAttribute("y", outer || right !== own ? y + high : y + high / 2 + GAP);
      text.setAttribute("text-anchor", right ? "start" : "end");
    }
  }

  /** Return whether a name stands right of its box: on its `own` side, or where only the other has room. */
  isRight(own, x, wide, length) {
    const room = { true: x + wide + GAP + length <= this.film.box.clientWidth, false: x - GAP - length >= 0 };
    return room[own] || !room[!own] ? own : !own;
  }

  frame(rects, [x0, y0, x1, y1]) {
    const [left, top] = this.onScreen(x0, y0);
    const [right, bottom] = this.onScreen(x1, y1);
    for (const rect of rects) {
      const sides = { x: left, y: top, width: right - left, height: bottom - top };
      Object.entries(sides).forEach(([name, value]) => rect.setAttribute(name, value.toFixed(1)));
    }
    return [left, top, right - left, bottom - top];
  }

  onScreen(x, y) {
    return this.film.place(x / this.scale, y / this.scale);
  }
}

function byBox(regions) {
  const groups = new Map();
  for (const region of regions) {
    const key = region.box_px.join();
    groups.set(key, [...(groups.get(key) ?? []), region]);
  }
  return groups;
}

/** Return a bone's short name, as readers write it: `MC3`, `R`. */
export function shortName(bone) {
  return { radius: "R", ulna: "U", capitate: "Cap", hamate: "Ham" }[bone] ?? bone.toUpperCase();
}
