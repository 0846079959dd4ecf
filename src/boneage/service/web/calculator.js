/** The score calculator: the same sheet and plot, without an image. */
import { fetchJson } from "./api.js";
import { element } from "./dom.js";
import { Grades } from "./grades.js";
import { GrowthPlot } from "./plot.js";
import { Sheet } from "./sheet.js";
import { inEachLanguage, say } from "./words.js";

/** Show an empty score sheet in `place` until `signal` ends it. */
export async function openCalculator(place, signal) {
  const paths = ["/standards", "/growth/female", "/growth/male"];
  const [standards, female, male] = await Promise.all(paths.map((path) => fetchJson(path)));
  const grades = new Grades({ standards, sex: "female" });
  const plot = new GrowthPlot({ reference: female, needsAge: "plot_calculator_age", signal });
  const sheet = new Sheet({ grades, onTab: () => follow(), signal });
  const follow = () => {
    const answer = grades.answer(sheet.name);
    plot.reference = grades.sex === "male" ? male : female;
    const [months, sd] = [answer?.age_months, answer?.sd_score];
    const point = { kind: "sheet", months, sd, standard: sheet.name, changed: true };
    plot.update({ age: grades.age, points: [point] });
  };
  grades.addEventListener("change", follow);
  const head = element("div");
  place.replaceChildren(head, element("div.calculator", sheet.node, plot.node));
  inEachLanguage(() => head.replaceChildren(...childForm(grades)), signal);
}

function childForm(grades) {
  const age = grades.age === null ? [null, null] : [Math.floor(grades.age / 12), Math.round(grades.age % 12)];
  const number = (name, max, value) =>
    element("input", { name, type: "number", min: 0, max, step: "any", value, oninput: read });
  const [years, months] = [number("years", 25, age[0]), number("months", 11.9, age[1])];
  const sexes = ["female", "male"].map((sex) => {
    const state = { value: sex, checked: sex === grades.sex, onchange: read };
    return element("label", element("input", { type: "radio", name: "calculator-sex", ...state }), " ", say(sex));
  });
  const ages = [years, months].map((input) => element("label", element("span", say(input.name)), input));
  const form = element("form.card.row", { onsubmit: (event) => event.preventDefault() },
    element("fieldset", element("legend", say("sex")), sexes),
    element("fieldset", element("legend", say("age_at_exam")),
      element("div.fields", ages)));
  function read() {
    const valid = years.validity.valid && months.validity.valid;
    const given = valid && (years.value !== "" || months.value !== "");
    const sex = form.elements["calculator-sex"].value;
    grades.setChild(sex, given ? 12 * Number(years.value) + Number(months.value) : null);
  }
  return [element("h1", say("calculator_title")), element("p.soft", say("calculator_text")), form];
}
