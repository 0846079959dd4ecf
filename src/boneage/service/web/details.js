/** What the upload form says of the child, checked before anything is sent. */
import { say } from "./words.js";

const MEASURED = ["height_cm", "weight_kg", "father_cm", "mother_cm", "menarche"];
const PICTURES = [
  [0x89, 0x50, 0x4e, 0x47],
  [0xff, 0xd8, 0xff],
  [0x49, 0x49, 0x2a, 0x00],
  [0x4d, 0x4d, 0x00, 0x2a],
  [0x52, 0x49, 0x46, 0x46],
];

/** Return the form's entries for the server; throws an Error in the page's words for what cannot be. */
export function childDetails(form) {
  checkRanges(form);
  const value = (name) => form.elements[name].value.trim();
  const details = { sex: value("sex"), label: value("label"), ...agesOf(form, value) };
  MEASURED.forEach((name) => (details[name] = value(name)));
  return Object.fromEntries(Object.entries(details).filter(([, entry]) => entry !== ""));
}

function agesOf(form, value) {
  if (value("age_by") === "age") {
    const given = value("years") !== "" || value("months") !== "";
    return given ? { age_months: String(12 * Number(value("years")) + Number(value("months"))) } : {};
  }
  const [birth, exam] = [value("birth_date"), value("exam_date")];
  if (birth && exam && exam < birth) throw wrong(form.elements.exam_date, say("exam_before_birth"));
  return birth ? { birth_date: birth, ...(exam && { exam_date: exam }) } : {};
}

function checkRanges(form) {
  for (const field of form.elements) {
    if (field.willValidate && !field.closest("[hidden]") && !field.validity.valid) {
      const name = field.closest("label")?.querySelector("span")?.textContent ?? field.name;
      throw wrong(field, say("field_wrong", { field: name, reason: field.validationMessage }));
    }
  }
}

function wrong(field, message) {
  field.focus();
  return new Error(message);
}

/** Return whether a file is a plain picture, which cannot say the child's sex. */
export async function isPicture(file) {
  const start = new Uint8Array(await file.slice(0, 4).arrayBuffer());
  return PICTURES.some((magic) => magic.every((byte, place) => start[place] === byte));
}
