/** The list of past results, newest first, a page at a time. */
import { fetchJson } from "./api.js";
import { announce, byId, confirmed, element } from "./dom.js";
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
  page = first ?? (await fetchJson(`/jobs?limit=${PAGE}${before ? `&before=${encodeURIComponent(before)}` : ""}`));
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
    place.replaceChildren(element("p", { class: "soft" }, say("empty_worklist")));
    return;
  }
  const head = ["time", "label_short", "state", "sex", "age", "bone_age", "sd"].map((key) =>
    element("th", { scope: "col" }, say(key)),
  );
  const last = element("th", { scope: "col" }, element("span", { class: "unseen" }, say("actions")));
  const kept = document.activeElement?.closest("#worklist [data-key]")?.dataset.key;
  place.replaceChildren(
    element(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-labelledby": "worklist-title" },
      element("table", { class: "list" }, element("thead", {}, element("tr", {}, head, last)), element("tbody", {}, page.jobs.map(row))),
    ),
    element("div", { class: "buttons" }, turn("newer", trail.length > 0, newer), turn("older", page.next !== null, older)),
  );
  // Polling redraws the list; the keyboard's place in it stays.
  if (kept) place.querySelector(`[data-key="${kept}"]`)?.focus();
}

function row(job) {
  const name = job.label || say("no_label");
  const remove = async () => (await deleteJob(job)) && refresh();
  const cells = [
    element("a", { href: `#job=${job.id}`, "data-key": `open-${job.id}` }, timeText(job.created_at)),
    name,
    element("span", { class: ["rejected", "failed"].includes(job.state) ? "bad-text" : "" }, jobStateText(job)),
    sexText(job.sex),
    ageText(job.chronological_age_months),
    [ageText(job.bone_age_months), job.changed ? element("span", { class: "tag" }, say("changed")) : ""],
    signedText(job.sd_score),
    element(
      "button",
      { type: "button", class: "quiet", "data-key": `delete-${job.id}`, "aria-label": say("delete_one", { name }), onclick: remove },
      say("delete"),
    ),
  ];
  return element("tr", {}, cells.map((cell) => element("td", {}, cell)));
}

function turn(key, possible, go) {
  return element("button", { type: "button", disabled: !possible, "data-key": key, onclick: go }, say(key));
}

function older() {
  trail.push(page.next);
  refresh();
}

function newer() {
  trail.pop();
  refresh();
}
