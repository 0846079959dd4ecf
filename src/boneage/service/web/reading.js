/** The page of one result: film, answer, score sheet, growth plot, atlas and downloads. */
import { fetchJson, request } from "./api.js";
import { answerCard, detailsCard } from "./answer.js";
import { Atlas } from "./atlas.js";
import { button, element, pause, showProblem } from "./dom.js";
import { downloadsBar } from "./downloads.js";
import { ageText, gradeText, sexText, timeText } from "./format.js";
import { Grades } from "./grades.js";
import { GrowthPlot } from "./plot.js";
import { Saver } from "./saving.js";
import { Sheet } from "./sheet.js";
import { jobStateText } from "./upload.js";
import { Viewer } from "./viewer.js";
import { deleteJob } from "./worklist.js";
import { codedText, inEachLanguage, say } from "./words.js";

const STATES = { saving: "save_saving", saved: "save_saved", unsaved: "save_unsaved" };

/** Show a job in `place` until `signal` ends it; a job that is still being read is waited for. */
export async function openReading(place, id, signal) {
  place.replaceChildren(element("p.soft", { role: "status" }, say("loading")));
  try {
    const job = await ended(place, id, signal);
    if (signal.aborted) return;
    if (job.state === "done") await new Reading(place, job, signal).open();
    else inEachLanguage(() => place.replaceChildren(...refusal(job)), signal);
  } catch (error) {
    // The front says what is wrong; here nothing is loading any more.
    if (!signal.aborted) inEachLanguage(() => place.replaceChildren(backLink()), signal);
    throw error;
  }
}

async function ended(place, id, signal) {
  for (;;) {
    const job = await fetchJson(`/jobs/${encodeURIComponent(id)}`, { signal });
    if (!["queued", "running"].includes(job.state)) return job;
    place.replaceChildren(backLink(), element("p", { role: "status" }, jobStateText(job)));
    await pause(700, signal);
  }
}

function refusal(job) {
  return [
    backLink(),
    element("section.card",
      element("h1", say("refused_title")),
      element("p.notice.bad", job.error ? codedText(job.error) : jobStateText(job)),
      element("p", say("refused_help")),
      element("div.buttons", deleteButton(job))),
  ];
}

function backLink() {
  return element("a.back", { href: "#" }, `\u2039 ${say("back")}`);
}

function deleteButton(job) {
  return button(say("delete"), async () => (await deleteJob(job)) && (location.hash = ""));
}

class Reading {
  constructor(place, job, signal) {
    Object.assign(this, { place, job, signal, result: job.result });
    this.head = element("header.reading-head");
    this.problem = element("p.notice.bad", { role: "alert", hidden: true });
    [this.answer, this.more] = [element("div.in-answer"), element("div.in-more")];
    this.saver = new Saver(async (grades) => {
      const saved = await fetchJson(`/jobs/${job.id}/reading`, { method: "PUT", json: { grades } });
      this.result = saved.result;
      this.renderAnswer();
      // What could not be scored while the server was away is asked again.
      this.grades.dispatchEvent(new CustomEvent("change", { detail: {} }));
    }, (name, error) => this.showStatus(name, error));
  }

  async open() {
    const { sex, regions, growth, reading = [] } = this.result;
    const [standards, reference] = await Promise.all([fetchJson("/standards"), fetchJson(`/growth/${sex}`)]);
    if (this.signal.aborted) return;
    this.grades = new Grades({
      standards, sex, age: this.result.chronological_age_months,
      network: gradesByStandard(standards, regions),
      changed: Object.fromEntries(reading.map((sheet) => [sheet.standard, sheet.changed])),
    });
    this.sd = growth.sd_score?.value ?? null;
    this.build(reference, regions);
    this.grades.addEventListener("change", ({ detail }) => {
      this.follow();
      if (detail.edited) this.saver.put(this.grades.reading());
    });
    this.follow();
    await Promise.all([this.showFilm(), this.atlas.open(sex, this.result.bone_age_months)]).catch((error) => {
      if (error.name !== "AbortError") showProblem(this.problem, error.message);
    });
  }

  build(reference, regions) {
    const { signal } = this;
    const onBone = (bone, options) => this.select(bone, options);
    this.atlas = new Atlas({ signal });
    this.viewer = new Viewer({ onBone, beside: this.atlas.node, signal });
    this.plot = new GrowthPlot({ reference, signal });
    this.sheet = new Sheet({
      grades: this.grades, scores: this.result.scores, onBone, onTab: () => this.follow(), signal,
      confidence: Object.fromEntries(regions.map(({ bone, confidence }) => [bone, confidence])),
    });
    const { head, problem, viewer, answer, sheet, plot, more } = this;
    const panels = element("div.panels", answer, sheet.node, plot.node, more);
    this.place.replaceChildren(head, problem, element("div.reading-grid", viewer.node, panels));
    inEachLanguage(() => (this.renderHead(), this.renderAnswer()), signal);
  }

  renderHead() {
    const { job, result } = this;
    const time = timeText(job.created_at);
    const about = [sexText(result.sex), ageText(result.chronological_age_months), time];
    this.told = element("span", { role: "status" });
    this.head.replaceChildren(
      element("div.titles",
        backLink(),
        element("h1", job.label || say("result_of", { time })),
        element("p.soft", about.join(" \u00b7 "), " ", this.told)),
      element("div.doings",
        downloadsBar(job, () => this.saver.settled(), (...text) => this.tell(...text)),
        deleteButton(job)),
    );
    if (this.status) this.showStatus(this.status.name, this.status.error);
  }

  renderAnswer() {
    this.answer.replaceChildren(answerCard(this.result));
    this.more.replaceChildren(detailsCard(this.result));
  }

  showStatus(name, error = null) {
    this.status = { name, error };
    const again = name === "unsaved" && button(say("save_now"), () => this.saver.tryNow());
    this.tell(say(STATES[name], { reason: error && codedText(error) }), name === "unsaved", again);
  }

  tell(text, bad = false, ...more) {
    this.told.replaceChildren(element(bad ? "span.bad-text" : "span", "\u00b7 ", text, " ", ...more));
  }

  async showFilm() {
    const answer = await request(`/jobs/${this.job.id}/pixels`, { signal: this.signal });
    const header = (name) => Number(answer.headers.get(name));
    const levels = new Uint16Array(await answer.arrayBuffer());
    this.viewer.show({
      levels, width: header("X-Width"), height: header("X-Height"), scale: header("X-Scale"),
      low: header("X-Window-Low"), high: header("X-Window-High"),
    }, this.result);
    this.follow();
  }

  select(bone, options) {
    this.sheet.select(bone, options);
    this.viewer.select(bone);
  }

  /** Bring plot and film in line with the sheet. */
  follow() {
    const { result, grades, sd } = this;
    const standard = this.sheet.name;
    const answer = grades.answer(standard);
    const model = { kind: "model", months: result.bone_age_months, interval: result.interval_months, sd };
    const read = { months: answer?.age_months, sd: answer?.sd_score, changed: grades.anyChanged(standard) };
    const points = [model, { kind: "sheet", standard, ...read }];
    this.plot.update({ age: result.chronological_age_months, points });
    this.viewer.overlay.setGrades(this.gradeMarks(standard));
  }

  gradeMarks(name) {
    const marks = {};
    for (const { bone, grades } of this.grades.standard(name).bones) {
      const own = gradeText(grades, this.grades.own(name, bone));
      const now = gradeText(grades, this.grades.grade(name, bone));
      const changed = this.grades.isChanged(name, bone);
      marks[bone] = { text: changed ? `${own}\u2192${now}` : now, changed };
    }
    return marks;
  }
}

function gradesByStandard(standards, regions) {
  const graded = (name) => regions.filter(({ grades }) => name in grades);
  const byBone = (name) => Object.fromEntries(graded(name).map(({ bone, grades }) => [bone, grades[name]]));
  return Object.fromEntries(standards.map(({ name }) => [name, byBone(name)]));
}
