/** The list of past results, newest first, a page at a time. */
import { fetchJson } from "./api.js";
import { announce, button, byId, confirmed, element } from "./dom.js";
import { ageText, sexText, signedText, timeText } from "./format.js";
import { jobStateText } from "./upload.js";
import { inEachLanguage, say } from "./words.js";

const PAGE = 50;

let page = { jobs: [], next: null };
let trail = [];

/** Make the worklist work. */
export function openWorklist() {
  byId("refresh").addEventListener("click", () => refresh().then(() => announce(say("worklist"))));
  inEachLanguage(show);
}

/** Show the worklist anew; `first` is its first page where that is at hand. */
export async function refresh(first = null) {
  const before = trail.at(-1);
  if (first && before) return;
  page = first ?? (await fetchJson(`/jobs?limit=${PAGE}${before ? `&before=${before}` : ""}`));
  show();
}

/** Ask, and then delete a job with its image and result; resolves to whether it is gone. */
export async function deleteJob(job) {
  const name = job.label || timeText(job.created_at);
  if (!(await confirmed(say("delete_sure", { name }), say("delete")))) return false;
  await fetchJson(`/jobs/${job.id}`, { method: "DELETE" });
  announce(say("deleted"));
  return true;
}

function show() {
  const place = byId("worklist");
  if (!page.jobs.length && !trail.length) {
    place.replaceChildren(element("p.soft", say("empty_worklist")));
    return;
  }
  const keys = ["time", "label_short", "state", "sex", "age", "bone_age", "sd"];
  const head = keys.map((key) => element("th", { scope: "col" }, say(key)));
  const last = element("th", { scope: "col" }, element("span.unseen", say("actions")));
  const kept = document.activeElement?.closest("#worklist [data-key]")?.dataset.key;
  place.replaceChildren(
    element("div.scroll", { tabindex: 0, role: "region", "aria-labelledby": "worklist-title" },
      element("table.list",
        element("thead", element("tr", head, last)),
        element("tbody", page.jobs.map(row)))),
    element("div.buttons", turn("newer", trail.length > 0, newer), turn("older", page.next !== null, older)),
  );
  // Polling redraws the list; the keyboard's place in it stays.
  if (kept) place.querySelector(`[data-key="${kept}"]`)?.focus();
}

function row(job) {
  const name = job.label || say("no_label");
  const remove = async () => (await deleteJob(job)) && refresh();
  const deletes = { class: "quiet", "data-key": `delete-${job.id}`, "aria-label": say("delete_one", { name }) };
  const refused = ["rejected", "failed"].includes(job.state);
  const cells = {
    time: element("a", { href: `#job=${job.id}`, "data-key": `open-${job.id}` }, timeText(job.created_at)),
    label_short: name,
    state: element(refused ? "span.bad-text" : "span", jobStateText(job)),
    sex: sexText(job.sex),
    age: ageText(job.chronological_age_months),
    bone_age: [ageText(job.bone_age_months), job.changed && element("span.tag", say("changed"))],
    sd: signedText(job.sd_score),
    actions: button(say("delete"), remove, deletes),
  };
  const cell = ([key, content]) => element("td", { "data-label": say(key) }, content);
  return element("tr", Object.entries(cells).map(cell));
}

function turn(key, possible, go) {
  return button(say(key), go, { disabled: !possible, "data-key": key });
}

function older() {
  trail.push(page.next);
  refresh();
}

function newer() {
  trail.pop();
  refresh();
}
