/** The score sheet: the network's grade of each bone, the reader's beside it, and what they come to. */
import { announce, button, element, showProblem } from "./dom.js";
import { ageText, boneText, choiceText, gradeText, numberText, shareText, signedText } from "./format.js";
import { codedText, inEachLanguage, say } from "./words.js";

const EMPTY = "";
const TITLES = { rus_chn: "RUS-CHN", tw3: "TW3", chn: "CHN" };

/** Return what people call a standard on a tab. */
export function standardTitle(name) {
  return TITLES[name] ?? name;
}

/** A sheet for `grades`; `onBone` hears the bone that is being read, `onTab` the standard that is shown. */
export class Sheet {
  constructor({ grades, confidence = {}, scores = {}, onBone = () => {}, onTab = () => {}, signal }) {
    Object.assign(this, { grades, confidence, scores, onBone, onTab });
    this.name = grades.standards[0].name;
    this.hasNetwork = Object.keys(grades.network).length > 0;
    this.node = element("section.card.sheet", { "aria-labelledby": "sheet-title" });
    this.problem = element("p.notice.bad", { role: "alert", hidden: true });
    grades.addEventListener("change", () => this.fill());
    grades.addEventListener("problem", ({ detail }) => showProblem(this.problem, codedText(detail)));
    inEachLanguage(() => this.build(), signal);
  }

  get title() {
    return standardTitle(this.name);
  }

  /** Show another standard's sheet. */
  show(name) {
    this.name = name;
    this.build();
    this.onTab(name);
  }

  /** Mark a bone's row, and let the keyboard go on there when `focus`. */
  select(bone, { focus = true } = {}) {
    this.bone = bone;
    for (const row of this.rows.values()) row.node.classList.toggle("selected", row.bone === bone);
    const row = this.rows.get(bone);
    if (focus) row?.select.focus();
    else row?.node.scrollIntoView({ block: "nearest" });
  }

  build() {
    const { bones } = this.grades.standard(this.name);
    this.rows = new Map(bones.map((bone) => [bone.bone, this.row(bone)]));
    const keys = ["bone", ...(this.hasNetwork ? ["network"] : []), "your_grade", "score"];
    const head = keys.map((key) => element(`th.of-${key}`, { scope: "col" }, say(key)));
    this.feet = ["total", "bone_age", "sd_score"].map((key) => this.foot(key));
    this.allBack = button(say("take_back_all", { standard: this.title }), () => this.takeAllBack());
    this.notes = element("div.soft");
    this.node.replaceChildren(
      element("h2", { id: "sheet-title" }, say("sheet")),
      this.tabs(),
      this.problem,
      element("div", { id: "sheet-panel", role: "tabpanel", "aria-labelledby": `tab-${this.name}` },
        element("table.grades",
          element("thead", element("tr", head)),
          element("tbody", [...this.rows.values()].map(({ node }) => node)),
          element("tfoot", this.feet.map(({ node }) => node))),
        element("div.buttons", this.allBack),
        this.notes),
    );
    this.fill();
    if (this.bone) this.select(this.bone, { focus: false });
  }

  tabs() {
    const names = this.grades.standards.map(({ name }) => name);
    const turn = (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      this.show(names[(names.indexOf(this.name) + by + names.length) % names.length]);
      this.node.querySelector("[aria-selected=true]").focus();
    };
    const tab = (name) => {
      const shown = name === this.name;
      const state = { "aria-selected": String(shown), tabindex: shown ? 0 : -1 };
      const attributes = { role: "tab", id: `tab-${name}`, "aria-controls": "sheet-panel", ...state };
      return button(standardTitle(name), () => this.show(name), attributes);
    };
    const attributes = { role: "tablist", "aria-label": say("standards"), onkeydown: turn };
    return element("div.tabs", attributes, names.map(tab));
  }

  row({ bone, grades }) {
    const name = boneText(bone);
    const select = this.chooser(bone, grades);
    const takeBack = () => {
      this.grades.give(this.name, bone, null);
      select.focus();
    };
    const label = say("take_back_one", { bone: name });
    const back = button(say("take_back"), takeBack, { class: "quiet", "aria-label": label });
    const [tag, score] = [element("span.tag", { hidden: true }, say("changed")), element("td.number")];
    const read = () => bone !== this.bone && this.onBone(bone, { focus: false });
    const node = element("tr", { "data-bone": bone, onclick: read, onfocusin: read },
      element("th", { scope: "row" }, name, tag),
      this.hasNetwork && this.ownCell(bone, grades),
      element("td.mine", element("div", select, this.hasNetwork && back)),
      score);
    return { bone, node, select, back, tag, score };
  }

  chooser(bone, grades) {
    const graded = this.grades.own(this.name, bone) !== null;
    const option = (grade) => element("option", { value: grade.grade }, choiceText(grades, grade));
    const none = element("option", { value: EMPTY, disabled: graded }, say("none"));
    const change = ({ currentTarget }) => {
      this.toSay = true;
      this.grades.give(this.name, bone, currentTarget.value === EMPTY ? null : Number(currentTarget.value));
    };
    const label = say("grade_of", { standard: this.title, bone: boneText(bone) });
    return element("select", { "aria-label": label, "data-grade-of": bone, onchange: change }, none, grades.map(option));
  }

  ownCell(bone, grades) {
    const own = this.grades.own(this.name, bone);
    if (own === null) return element("td.own", say("not_graded"));
    const share = Number.isFinite(this.confidence[bone]) ? shareText(this.confidence[bone]) : "";
    const title = say("probability", { share });
    return element("td.own", gradeText(grades, own), element("span.soft", { title }, share));
  }

  takeAllBack() {
    this.grades.takeAllBack(this.name);
    this.rows.values().next().value.select.focus();
  }

  foot(key) {
    const [own, mine] = [element("td.own"), element("td.mine", { colspan: 2 })];
    const label = element("th", { scope: "row" }, say(key));
    return { key, own, mine, node: element("tr", { "data-foot": key }, label, this.hasNetwork && own, mine) };
  }

  /** Bring grades, scores, totals and marks up to date, leaving every element in place. */
  fill() {
    const now = this.grades.answer(this.name);
    const network = this.hasNetwork ? this.grades.answer(this.name, "network") : null;
    const scored = new Map((now?.bones ?? []).map((bone) => [bone.bone, bone.score]));
    let missing = 0;
    for (const { bone, node, select, back, tag, score } of this.rows.values()) {
      const grade = this.grades.grade(this.name, bone);
      const changed = this.hasNetwork && this.grades.isChanged(this.name, bone);
      if (grade === null) missing += 1;
      choose(select, String(grade ?? EMPTY));
      node.classList.toggle("changed", changed);
      tag.hidden = !changed;
      back.classList.toggle("away", !changed);
      score.textContent = numberText(scored.get(bone));
    }
    const texts = (answer) =>
      [numberText(answer?.total), ageText(answer?.age_months), signedText(answer?.sd_score)];
    const [own, mine] = [texts(network), texts(now)];
    if (missing) mine[0] = say("missing_bones", { count: missing });
    this.feet.forEach((foot, place) => {
      foot.own.textContent = own[place];
      foot.mine.textContent = mine[place];
    });
    this.allBack.hidden = !this.grades.anyChanged(this.name);
    this.note(now);
    this.tell(now);
  }

  note(now) {
    const score = this.scores[this.name];
    const [total, age] = [numberText(score?.expected_total, 1), ageText(score?.expected_age_months)];
    // The network's score and the reader's may owe the same remark; the one with a code says more.
    const remarks = [...(score?.remarks ?? []).map((text) => ({ text })), ...(now?.warnings ?? [])];
    const said = new Map(remarks.map((remark) => [remark.message ?? remark.text, codedText(remark)]));
    const texts = [score && say("expected", { total, age }), now?.edition, ...said.values()];
    if (this.hasNetwork) texts.push(say("learnt"));
    this.notes.replaceChildren(...texts.filter(Boolean).map((text) => element("p", text)));
  }

  tell(now) {
    if (!this.toSay || !now) return;
    this.toSay = false;
    showProblem(this.problem, null);
    const [total, age] = [numberText(now.total), ageText(now.age_months)];
    announce(say("now_reads", { standard: this.title, total, age }));
  }
}

// A grade between two, as a program may have given it, is not among the choices until it is there.
function choose(select, value) {
  const known = [...select.options].some((option) => option.value === value);
  if (!known) select.append(element("option", { value }, value));
  select.value = value;
}
