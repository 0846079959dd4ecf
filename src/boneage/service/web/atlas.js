/** The atlas of mean hands: the plate nearest to the bone age, beside the film, and its neighbours. */
import { fetchJson, request } from "./api.js";
import { element } from "./dom.js";
import { ageText, numberText } from "./format.js";
import { inEachLanguage, say } from "./words.js";

const pictures = new Map();
let index = null;

/** Return the atlas' plates of a sex, youngest first. */
export async function platesOf(sex) {
  index ??= fetchJson("/atlas").catch((error) => ((index = null), Promise.reject(error)));
  const plates = (await index).plates.filter((plate) => plate.sex === sex);
  return plates.sort((one, other) => one.age_months - other.age_months);
}

/** A figure of plates to turn; it starts at the one nearest to the bone age. */
export class Atlas {
  constructor({ signal }) {
    this.node = element("figure", { class: "plate", tabindex: 0, onkeydown: (event) => this.key(event) });
    this.picture = element("img", {});
    this.plates = [];
    inEachLanguage(() => this.render(), signal);
  }

  /** Show the plates of a sex from the one nearest to a bone age on. */
  async open(sex, boneAge) {
    Object.assign(this, { sex, boneAge });
    this.plates = await platesOf(sex);
    this.turnTo(this.nearest());
  }

  nearest() {
    const away = this.plates.map((plate) => Math.abs(plate.age_months - this.boneAge));
    return away.indexOf(Math.min(...away));
  }

  key(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    this.turnTo(this.place + by);
  }

  turnTo(place) {
    this.place = Math.min(this.plates.length - 1, Math.max(0, place));
    this.render();
    this.showPicture();
  }

  async showPicture() {
    const plate = this.plates[this.place];
    if (!plate) return;
    if (!pictures.has(plate.image)) {
      pictures.set(plate.image, request(plate.image).then((answer) => answer.blob()).then((blob) => URL.createObjectURL(blob)));
    }
    try {
      const source = await pictures.get(plate.image);
      if (plate === this.plates[this.place]) this.picture.src = source;
    } catch (error) {
      pictures.delete(plate.image);
      this.words.replaceChildren(element("p", {}, error.message));
    }
  }

  render() {
    this.node.setAttribute("aria-label", say("atlas"));
    const plate = this.plates[this.place];
    if (!plate) {
      this.node.replaceChildren(element("figcaption", {}, this.sex ? say("no_plates") : say("loading")));
      return;
    }
    const [sex, age] = [say(this.sex === "male" ? "boys" : "girls"), ageText(plate.age_months)];
    const away = Math.abs(plate.age_months - this.boneAge);
    this.picture.alt = say("plate_alt", { sex, age });
    const button = (key, place, text = say(key)) =>
      element("button", { type: "button", "data-key": key, "aria-label": say(key), disabled: place < 0 || place >= this.plates.length, onclick: () => this.press(key, place) }, text);
    this.words = element("figcaption", { "aria-live": "polite" }, element("b", {}, say("plate_name", { sex, age })),
      element("span", {}, say("plate_of", { hands: plate.hands })),
      element("span", {}, away < 0.5 ? say("plate_same") : say("plate_away", { months: numberText(away) })));
    this.node.replaceChildren(
      element("div", { class: "tools" }, element("span", { class: "group" }, button("plate_previous", this.place - 1, "\u2039"), button("plate_nearest", this.nearest()), button("plate_next", this.place + 1, "\u203a"))),
      this.picture,
      this.words,
    );
  }

  press(key, place) {
    this.turnTo(place);
    const again = this.node.querySelector(`[data-key=${key}]`);
    (again.disabled ? this.node : again).focus();
  }
}
