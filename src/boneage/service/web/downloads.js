/** The buttons that download a result in its forms. */
import { download } from "./api.js";
import { button, element } from "./dom.js";
import { codedText, say } from "./words.js";

const FORMS = {
  html: "results/html",
  pdf: "results/pdf",
  json: "results/json",
  fhir_r4: "results/fhir?release=R4",
  fhir_r5: "results/fhir?release=R5",
  sr: "results/sr",
  capture: "results/capture",
};
const OF_DICOM = ["sr", "capture"];

/** Return a job's downloads; `ready` is awaited before each, for the newest grades; `tell` shows how it goes. */
export function downloadsBar(job, ready, tell) {
  const fetchForm = async (name, pressed) => {
    const form = say(`form_${name}`);
    pressed.disabled = true;
    tell(say("preparing", { form }));
    try {
      await ready();
      await download(`/jobs/${job.id}/${FORMS[name]}`);
      tell(say("downloaded", { form }));
    } catch (error) {
      tell(say("download_failed", { form, reason: codedText(error) }), true);
    }
    pressed.disabled = false;
    pressed.focus();
  };
  const names = Object.keys(FORMS).filter((name) => job.kind === "dicom" || !OF_DICOM.includes(name));
  const buttons = names.map((name) =>
    button(say(`form_${name}`), (event) => fetchForm(name, event.currentTarget), { "data-form": name }));
  return element("div.downloads", { role: "group", "aria-label": say("downloads") },
    element("span.soft", say("downloads")), buttons);
}
