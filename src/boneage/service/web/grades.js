/** The grades of one hand by every standard: the network's, and those that a reader put in their place. */
import { fetchJson } from "./api.js";

/** The score sheets' state; fires `change` with a new grade or answer, `problem` when scoring fails. */
export class Grades extends EventTarget {
  /** `network`, `changed`: standard -> bone -> grade; `age`: chronological, in months, or null. */
  constructor({ standards, sex, age = null, network = {}, changed = {} }) {
    super();
    Object.assign(this, { standards, sex, age, network });
    this.changed = Object.fromEntries(standards.map(({ name }) => [name, { ...changed[name] }]));
    this.answers = new Map();
  }

  /** Return the standard of a name. */
  standard(name) {
    return this.standards.find((standard) => standard.name === name);
  }

  /** Return the network's grade of a bone, or null. */
  own(name, bone) {
    return this.network[name]?.[bone] ?? null;
  }

  /** Return the grade that counts, the reader's or the network's, or null. */
  grade(name, bone) {
    return this.changed[name][bone] ?? this.own(name, bone);
  }

  /** Return whether a reader gave a bone another grade than the network. */
  isChanged(name, bone) {
    return bone in this.changed[name];
  }

  /** Return whether a reader changed anything on a standard's sheet. */
  anyChanged(name) {
    return Object.keys(this.changed[name]).length > 0;
  }

  /** Give a bone a grade; the network's own, or null, takes the change back. */
  give(name, bone, grade) {
    if (grade === null || grade === this.own(name, bone)) delete this.changed[name][bone];
    else this.changed[name][bone] = grade;
    this.changes(name);
  }

  /** Take all changes of a standard back. */
  takeAllBack(name) {
    this.changed[name] = {};
    this.changes(name);
  }

  /** Set whose sheet it is; for the calculator. */
  setChild(sex, age) {
    Object.assign(this, { sex, age });
    this.dispatchEvent(new CustomEvent("change", { detail: {} }));
  }

  changes(name) {
    this.dispatchEvent(new CustomEvent("change", { detail: { name, edited: true } }));
  }

  /** Return the reader's grades as the server takes them: only the changed ones. */
  reading() {
    return Object.fromEntries(Object.entries(this.changed).filter(([name]) => this.anyChanged(name)));
  }

  /** Return what a standard's sheet comes to, null until the server has said; `network`: without changes. */
  answer(name, which = "now") {
    const bones = this.standard(name).bones.map(({ bone }) => bone);
    const pick = which === "network" ? this.own : this.grade;
    const grades = Object.fromEntries(
      bones.map((bone) => [bone, pick.call(this, name, bone)]).filter(([, grade]) => grade !== null),
    );
    if (!Object.keys(grades).length) return null;
    const age = this.age;
    const question = { standard: name, sex: this.sex, grades, chronological_age_months: age, partial: true };
    const key = JSON.stringify(question);
    if (!this.answers.has(key)) this.ask(key, question);
    return this.answers.get(key);
  }

  // Each set of grades is scored once; a failed one is asked again at the next change.
  async ask(key, question) {
    this.answers.set(key, null);
    try {
      this.answers.set(key, await fetchJson("/score", { method: "POST", json: question }));
      this.dispatchEvent(new CustomEvent("change", { detail: {} }));
    } catch (error) {
      this.answers.delete(key);
      this.dispatchEvent(new CustomEvent("problem", { detail: error }));
    }
  }
}
