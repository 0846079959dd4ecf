/** The network's answer in words and tables. */
import { element } from "./dom.js";
import { ageText, monthsText, numberText, sexText, shareText, signedText } from "./format.js";
import { codedText, hasWords, say, sayCount } from "./words.js";

const YEAR = 12;
const WORTH_NAMING = 0.05;
const NAMED_TOGETHER = 0.9;

/** Return the card with the bone age, what belongs to it, and the warnings. */
export function answerCard(result) {
  return element("section.card.answer", { "aria-labelledby": "answer-title" },
    element("h2", { id: "answer-title" }, say("answer")),
    element("p.age", ageText(result.bone_age_months)),
    factList(facts(result)),
    warnings(result.warnings),
    element("p.soft", say("intended_use")));
}

/** Return the card with the methods, intervals, heights and provenance. */
export function detailsCard(result) {
  return element("section.card.more",
    methods(result.ages),
    intervals(result.age_intervals),
    heights(result.growth.adult_heights),
    provenance(result));
}

function facts(result) {
  const [low, high] = result.interval_months.map(ageText);
  const entries = [
    [say("in_months"), monthsText(result.bone_age_months)],
    [say("interval", { share: shareText(result.coverage) }), say("from_to", { low, high })],
    [say("sex"), sexText(result.sex)],
  ];
  const age = result.chronological_age_months;
  if (age === null) return [...entries, [say("chronological_age"), say("unknown")]];
  return [
    ...entries,
    [say("chronological_age"), ageText(age)],
    [say("difference"), difference(result.bone_age_months - age)],
    [say("sd_score"), sdText(result.growth.sd_score)],
  ];
}

function sdText(sd) {
  if (!sd || sd.value === null) return sd?.remarks?.join(" ") || say("none");
  return say("sd_reference", { value: signedText(sd.value), reference: sd.reference });
}

function difference(months) {
  const whole = Math.round(Math.abs(months));
  if (whole === 0) return say("level_with");
  return sayCount(months > 0 ? "ahead" : "behind", whole);
}

function factList(entries) {
  return element("dl", entries.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

function warnings(notices) {
  if (!notices.length) return null;
  const items = notices.map((notice) => element("li.notice", codedText(notice)));
  return titled("warnings", element("ul.notices", items));
}

function methods(ages) {
  const name = (method) => (hasWords(`method_${method}`) ? say(`method_${method}`) : method);
  const rows = Object.entries(ages).map(([method, months]) => {
    return [name(method), `${ageText(months)} (${monthsText(months)})`];
  });
  return titled("by_method", table([say("method"), say("bone_age")], rows));
}

function intervals(all) {
  const named = likely(all);
  if (!named.length) return null;
  const rows = named.map(({ from_months, to_months, probability }) => {
    const [low, high] = [from_months, to_months].map((months) => numberText(months / YEAR));
    return element("li",
      element("span", say("year_interval", { low, high })),
      element("progress", { max: 1, value: probability, "aria-hidden": "true" }),
      element("span.number", shareText(probability)));
  });
  return titled("likely_intervals", element("ul.bars", rows));
}

// As in the report: the fewest that together are nearly certain, and all that are not rare.
function likely(all) {
  const named = [];
  let together = 0;
  for (const interval of [...all].sort((one, other) => other.probability - one.probability)) {
    const rare = Math.round(interval.probability * 100) / 100 < WORTH_NAMING;
    if (rare && together >= NAMED_TOGETHER) break;
    named.push(interval);
    together += interval.probability;
  }
  return named;
}

function heights(found) {
  if (!found) return null;
  const rows = found.predictions.map((one) => {
    const [height, sd] = [one.height_cm, one.residual_sd_cm].map((cm) => numberText(cm, 1));
    const remarks = one.remarks.map((remark) => element("small.soft", remark));
    const key = one.residual_sd_cm === null ? "height_only" : "height_sd";
    return [[one.edition, ...remarks], say(key, { height, sd })];
  });
  const without = Object.entries(found.left_out).map(([method, reason]) => {
    return element("p.soft", say("left_out", { method, reason }));
  });
  return titled("heights", rows.length ? table([say("method"), say("heights")], rows) : null, ...without);
}

function provenance({ provenance: made, hand }) {
  const sure = say("confidence_of", { share: shareText(hand.confidence) });
  const found = [hand.side && say(`side_${hand.side}`), hand.method, sure].filter(Boolean).join(", ");
  const entries = Object.entries(made).map(([name, value]) => {
    const text = typeof value === "object" ? JSON.stringify(value, null, 1) : String(value);
    return [name, element("code", text)];
  });
  return element("details",
    element("summary", say("provenance")),
    factList([[say("hand_found"), found], ...entries]));
}

function titled(key, ...children) {
  return element("div", element("h3", say(key)), ...children);
}

function table(head, rows) {
  const row = ([first, ...rest]) =>
    element("tr", element("th", { scope: "row" }, first), rest.map((cell) => element("td", cell)));
  return element("table",
    element("thead", element("tr", head.map((name) => element("th", { scope: "col" }, name)))),
    element("tbody", rows.map(row)));
}
