/** Ages, numbers, dates and grades as people read them. */
import { hasWords, language, say } from "./words.js";

const MINUS = "\u2212";

/** Return an age in months as years and months, rounded to the nearest month; a dash for none. */
export function ageText(months) {
  if (months === null || months === undefined) return say("none");
  const whole = Math.round(Math.abs(months));
  const text = say("age_text", { years: Math.floor(whole / 12), months: whole % 12 });
  return months < 0 && whole > 0 ? MINUS + text : text;
}

/** Return an age in months to a tenth. */
export function monthsText(months) {
  return say("months_text", { months: months.toFixed(1) });
}

/** Return a number with so many places and a true minus sign; a dash for none. */
export function numberText(value, places = 0) {
  if (value === null || value === undefined) return say("none");
  return value.toFixed(places).replace("-", MINUS);
}

/** Return a signed number, as an SD score is written. */
export function signedText(value, places = 1) {
  if (value === null || value === undefined) return say("none");
  return (value > 0 ? "+" : "") + numberText(value, places);
}

/** Return a share in whole per cent; one short of certainty is never called 100%. */
export function shareText(share) {
  return share >= 0.995 && share < 1 ? ">99%" : `${Math.round(share * 100)}%`;
}

/** Return a point in time (seconds since 1970, or ISO text) as date and time. */
export function timeText(when) {
  const time = new Date(typeof when === "number" ? when * 1000 : when);
  const locale = language() === "zh" ? "zh-CN" : "en-GB";
  return new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" }).format(time);
}

/** Return `girl` or `boy`, or a dash. */
export function sexText(sex) {
  return sex ? say(sex) : say("none");
}

/** Return the bone's name. */
export function boneText(bone) {
  return hasWords(`bone_${bone}`) ? say(`bone_${bone}`) : bone;
}

/** Return a grade as its standard writes it: a TW3 stage's letter, else the number. */
export function gradeText(grades, grade) {
  if (grade === null || grade === undefined) return say("none");
  const known = grades.find((one) => one.grade === grade);
  return known && /^[A-Z]$/.test(known.label) ? known.label : String(grade);
}

/** Return a grade for choosing: with the standard's sub-code where it writes one, as `6 = 5(2)`. */
export function choiceText(grades, { grade, label }) {
  const short = gradeText(grades, grade);
  return label && label !== short ? `${short} = ${label}` : short;
}
