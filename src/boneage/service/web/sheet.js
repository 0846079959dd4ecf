/** The score sheet: the network's grade of each bone, the reader's beside it, and what they come to. */
import { announce, element, showProblem } from "./dom.js";
import { ageText, boneText, choiceText, gradeText, numberText, shareText, signedText } from "./format.js";
import { inEachLanguage, say } from "./words.js";

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
    this.node = element("section", { class: "card sheet", "aria-labelledby": "sheet-title" });
    this.problem = element("p", { class: "notice bad", role: "alert", hidden: true });
    grades.addEventListener("change", () => this.fill());
    grades.addEventListener("problem", (event) => showProblem(this.problem, event.detail.message));
    inEachLanguage(() => this.build(), signal);
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
    if (focus) row?.select.focus({ preventScroll: false });
    else row?.node.scrollIntoView({ block: "nearest" });
  }

  build() {
    const standard = this.grades.standard(this.name);
    this.rows = new Map(standard.bones.map((bone) => [bone.bone, this.row(bone)]));
    const keys = ["bone", ...(this.hasNetwork ? ["network", "confidence"] : []), "your_grade", "score"];
    const head = keys.map((key) => element("th", { scope: "col", class: `of-${key}` }, say(key)));
    const last = element("th", { scope: "col" }, element("span", { class: "unseen" }, say("actions")));
    this.feet = ["total", "bone_age", "sd_score"].map((key) => this.foot(key));
    this.allBack = element("button", { type: "button", onclick: () => this.takeAllBack() }, say("take_back_all", { standard: standardTitle(this.name) }));
    this.notes = element("div", { class: "soft" });
    this.node.replaceChildren(
      element("h2", { id: "sheet-title" }, say("sheet")),
      this.tabs(),
      this.problem,
      element(
        "div",
        { id: "sheet-panel", role: "tabpanel", "aria-labelledby": `tab-${this.name}` },
        element("table", { class: "grades" }, element("thead", {}, element("tr", {}, head, last)),
          element("tbody", {}, [...this.rows.values()].map(({ node }) => node)),
          element("tfoot", {}, this.feet.map(({ node }) => node))),
        element("div", { class: "buttons" }, this.allBack),
        this.notes,
      ),
    );
    this.fill();
    if (this.bone) this.select(this.bone, { focus: false });
  }

  tabs() {
    const names = this.grades.standards.map(({ name }) => name);
    const turn = (event, place) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      this.show(names[(place + by + names.length) % names.length]);
      this.node.querySelector("[role=tab][aria-selected=true]").focus();
    };
    const tab = (name, place) => {
      const shown = name === this.name;
      return element("button", {
        type: "button", role: "tab", id: `tab-${name}`, tabindex: shown ? 0 : -1, "aria-selected": String(shown), "aria-controls": "sheet-panel",
        onclick: () => this.show(name), onkeydown: (event) => turn(event, place),
      }, standardTitle(name));
    };
    return element("div", { class: "tabs", role: "tablist", "aria-label": say("standards") }, names.map(tab));
  }

  row({ bone, grades }) {
    const name = boneText(bone);
    const own = this.grades.own(this.name, bone);
    const select = element("select", {
      "aria-label": say("grade_of", { standard: standardTitle(this.name), bone: name }), "data-grade-of": bone,
      onchange: () => this.give(bone, select),
    }, element("option", { value: EMPTY, disabled: own !== null }, say("none")), grades.map((grade) => element("option", { value: grade.grade }, choiceText(grades, grade))));
    const back = element("button", {
      type: "button", class: "quiet", "aria-label": say("take_back_one", { bone: name }),
      onclick: () => (this.grades.give(this.name, bone, null), select.focus()),
    }, say("take_back"));
    const [tag, score] = [element("span", { class: "tag", hidden: true }, say("changed")), element("td", { class: "number" })];
    const sure = this.confidence[bone];
    const network = this.hasNetwork
      ? [element("td", { class: "own" }, own === null ? say("not_graded") : gradeText(grades, own)),
        element("td", { class: "number soft" }, sure === null || sure === undefined ? say("none") : shareText(sure))]
      : [];
    const read = () => bone !== this.bone && this.onBone(bone, { focus: false });
    const node = element("tr", { "data-bone": bone, onclick: read, onfocusin: read },
      element("th", { scope: "row" }, name), network, element("td", { class: "mine" }, select, tag), score, element("td", {}, back));
    return { bone, node, select, back, tag, score };
  }

  give(bone, select) {
    this.grades.give(this.name, bone, select.value === EMPTY ? null : Number(select.value));
    this.toSay = true;
  }

  takeAllBack() {
    this.grades.takeAllBack(this.name);
    this.rows.values().next().value.select.focus();
  }

  foot(key) {
    const [own, mine] = [element("td", { colspan: 2, class: "own" }), element("td", { colspan: 3, class: "mine" })];
    const label = say(key);
    return { key, own, mine, node: element("tr", { "data-foot": key }, element("th", { scope: "row" }, label), this.hasNetwork ? own : "", mine) };
  }

  /** Bring grades, scores, totals and marks up to date, leaving every element in place. */
  fill() {
    const [now, network] = [this.grades.answer(this.name), this.hasNetwork ? this.grades.answer(this.name, "network") : null];
    const scored = new Map((now?.bones ?? []).map((bone) => [bone.bone, bone]));
    for (const { bone, node, select, back, tag, score } of this.rows.values()) {
      const changed = this.hasNetwork && this.grades.isChanged(this.name, bone);
      select.value = this.grades.grade(this.name, bone) ?? EMPTY;
      node.classList.toggle("changed", changed);
      tag.hidden = !changed;
      back.classList.toggle("away", !changed);
      score.textContent = numberText(scored.get(bone)?.score ?? null);
    }
    const missing = [...this.rows.keys()].filter((bone) => this.grades.grade(this.name, bone) === null).length;
    const texts = (answer) => [numberText(answer?.total), ageText(answer?.age_months), signedText(answer?.sd_score)];
    const [own, mine] = [texts(network), texts(now)];
    this.feet.forEach((foot, place) => {
      foot.own.textContent = own[place];
      foot.mine.textContent = foot.key === "total" && missing ? say("missing_bones", { count: missing }) : mine[place];
    });
    this.allBack.hidden = !this.grades.anyChanged(this.name);
    this.note(now);
    this.tell(now);
  }

  note(now) {
    const score = this.scores[this.name];
    const expected = score && say("expected", { total: numberText(score.expected_total, 1), age: ageText(score.expected_age_months) });
    const remarks = [...new Set([...(score?.remarks ?? []), ...(now?.warnings ?? []).map(({ text }) => text)])];
    const texts = [expected, now?.edition, ...remarks, this.hasNetwork ? say("learnt") : null].filter(Boolean);
    this.notes.replaceChildren(...texts.map((text) => element("p", {}, text)));
  }

  tell(now) {
    if (!this.toSay || !now) return;
    this.toSay = false;
    showProblem(this.problem, null);
    announce(say("now_reads", { standard: standardTitle(this.name), total: numberText(now.total), age: ageText(now.age_months) }));
  }
}
