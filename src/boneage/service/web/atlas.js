/** The atlas of mean hands: the plate nearest to the bone age, beside the film, and its neighbours. */
import { fetchJson, request } from "./api.js";
import { button, element } from "./dom.js";
import { ageText } from "./format.js";
import { inEachLanguage, say, sayCount } from "./words.js";

const pictures = new Map();
let index = null;

async function platesOf(sex) {
  index ??= fetchJson("/atlas").catch((error) => {
    index = null;
    throw error;
  });
  const plates = (await index).plates.filter((plate) => plate.sex === sex);
  return plates.sort((one, other) => one.age_months - other.age_months);
}

async function pictureOf(plate) {
  const load = async () => URL.createObjectURL(await (await request(plate.image)).blob());
  if (!pictures.has(plate.image)) pictures.set(plate.image, load());
  return pictures.get(plate.image).catch((error) => {
    pictures.delete(plate.image);
    throw error;
  });
}

/** A figure of plates to turn; it starts at the one nearest to the bone age. */
export class Atlas {
  constructor({ signal }) {
    this.node = element("figure.plate", { tabindex: 0, onkeydown: (event) => this.key(event) });
    this.picture = element("img");
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
    try {
      const source = await pictureOf(plate);
      if (plate === this.plates[this.place]) this.picture.src = source;
    } catch (error) {
      this.words.replaceChildren(element("p", error.message));
    }
  }

  render() {
    this.node.setAttribute("aria-label", say("atlas"));
    const plate = this.plates[this.place];
    if (!plate) {
      this.node.replaceChildren(element("figcaption", this.sex ? say("no_plates") : say("loading")));
      return;
    }
    const [sex, age] = [say(this.sex === "male" ? "boys" : "girls"), ageText(plate.age_months)];
    const away = Math.round(Math.abs(plate.age_months - this.boneAge));
    this.picture.alt = say("plate_alt", { sex, age });
    this.words = element("figcaption", { "aria-live": "polite" },
      element("b", say("plate_name", { sex, age })),
      element("span", say("plate_of", { hands: plate.hands })),
      element("span", away === 0 ? say("plate_same") : sayCount("plate_away", away)));
    const tools = element("div.tools",
      this.turner("plate_previous", this.place - 1, "\u2039"),
      this.turner("plate_nearest", this.nearest(), say("plate_nearest")),
      this.turner("plate_next", this.place + 1, "\u203a"));
    this.node.replaceChildren(tools, this.words, this.picture);
  }

  turner(key, place, text) {
    const disabled = place < 0 || place >= this.plates.length;
    const press = () => {
      this.turnTo(place);
      const again = this.node.querySelector(`[data-key=${key}]`);
      (again.disabled ? this.node : again).focus();
    };
    return button(text, press, { "data-key": key, "aria-label": say(key), disabled });
  }
}
