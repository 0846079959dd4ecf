/** The drop zone and its uploads: one after the other, each repeated until the server has it once. */
import { ApiError, fetchJson, postForm } from "./api.js";
import { childDetails, isPicture } from "./details.js";
import { announce, button, byId, element, pause, showProblem } from "./dom.js";
import { codedText, inEachLanguage, say } from "./words.js";

const MOST_TRIES = 6;
const MEGABYTE = 1_000_000;
const ENDED = ["done", "rejected", "failed"];

let chosen = [];
const uploads = [];
let sending = false;
let watching = false;
let limitBytes = Infinity;
let onJobs = () => {};

/** Make the upload form work; `changed` is called when the worklist may have changed. */
export function openUpload(info, changed) {
  limitBytes = info.limits.upload_bytes;
  onJobs = changed;
  const form = byId("upload");
  byId("files").addEventListener("change", (event) => {
    choose(event.target.files);
    event.target.value = "";
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    start(form).catch((error) => showProblem(byId("upload-problem"), error.message));
  });
  form.addEventListener("change", () => {
    showProblem(byId("upload-problem"), null);
    const byDates = form.elements.age_by.value === "dates";
    byId("by-dates").hidden = !byDates;
    byId("by-age").hidden = byDates;
  });
  acceptDrops();
  // Closing the page would lose what the server does not have yet.
  window.addEventListener("beforeunload", (event) => {
    if (uploads.some(({ words }) => words && words[0] !== "up_gave_up")) event.preventDefault();
  });
  inEachLanguage(() => (showChosen(), uploads.forEach(show)));
}

function acceptDrops() {
  const zone = byId("drop");
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  // A file that misses the zone must not replace the page.
  for (const type of ["dragover", "drop"]) {
    document.addEventListener(type, (event) => hasFiles(event) && event.preventDefault());
  }
  zone.addEventListener("dragover", () => zone.classList.add("over"));
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    zone.classList.remove("over");
    choose(event.dataTransfer.files);
  });
}

function choose(files) {
  chosen.push(...files);
  showProblem(byId("upload-problem"), null);
  showChosen();
}

function showChosen() {
  const leaveOut = (file) => {
    chosen = chosen.filter((other) => other !== file);
    showChosen();
    byId("files").focus();
  };
  const rows = chosen.map((file) => {
    const attributes = { class: "quiet", "aria-label": say("remove_file", { name: file.name }) };
    const remove = button(say("remove"), () => leaveOut(file), attributes);
    return element("li", element("span.name", file.name), remove);
  });
  byId("chosen").replaceChildren(...rows);
}

async function start(form) {
  showProblem(byId("upload-problem"), null);
  if (!chosen.length) throw new Error(say("need_file"));
  const details = childDetails(form);
  for (const file of chosen) await check(file, details);
  const alone = chosen.length === 1;
  chosen.forEach((file, place) => uploads.unshift(newUpload(file, details, alone, place)));
  chosen = [];
  // The next child's radiograph must not go with this child's details.
  form.reset();
  form.dispatchEvent(new Event("change"));
  showChosen();
  uploads.forEach(show);
  sendAll();
}

async function check(file, details) {
  if (file.size > limitBytes) {
    const [size, limit] = [file.size, limitBytes].map((bytes) => (bytes / MEGABYTE).toFixed(1));
    throw new Error(say("too_large", { name: file.name, size, limit }));
  }
  if (!details.sex && (await isPicture(file))) throw new Error(say("need_sex", { name: file.name }));
}

function newUpload(file, details, alone, place) {
  const label = details.label && !alone ? `${details.label.slice(0, 74)} (${place + 1})` : details.label;
  const node = element("li");
  byId("uploads").prepend(node);
  const own = label ? { ...details, label } : details;
  return { file, details: own, alone, key: newKey(), node, words: ["up_waiting"], job: null };
}

// `randomUUID` exists only where the page came over HTTPS or from this machine.
function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function sendAll() {
  if (sending) return;
  sending = true;
  let next;
  while ((next = uploads.findLast((upload) => upload.words?.[0] === "up_waiting"))) await sendOne(next);
  sending = false;
}

async function sendOne(upload) {
  for (let tries = 1; ; tries += 1) {
    try {
      const headers = { "Idempotency-Key": upload.key };
      accepted(upload, await postForm("/jobs", formOf(upload), headers, (part) => sent(upload, part)));
      return;
    } catch (error) {
      const wait = secondsToWait(error, tries);
      if (wait === null) {
        tell(upload, "up_gave_up", { reason: codedText(error) });
        upload.retry = !(error instanceof ApiError) || error.status === 0 || error.status >= 500;
        show(upload);
        announce(stateText(upload));
        return;
      }
      await countDown(upload, error.status === 0 ? "up_network" : "up_busy", wait);
    }
  }
}

// A full queue is waited for as long as it takes; a lost connection only so often.
function secondsToWait(error, tries) {
  if (error.status === 429) return error.retryAfter ?? 2;
  const temporary = error.status === 0 || error.status === 503;
  return temporary && tries < MOST_TRIES ? (error.retryAfter ?? 2 ** tries) : null;
}

async function countDown(upload, words, wait) {
  for (let left = Math.ceil(wait); left > 0; left -= 1) {
    tell(upload, words, { seconds: left });
    await pause(1000);
  }
}

function formOf({ file, details }) {
  const form = new FormData();
  Object.entries(details).forEach(([name, entry]) => form.append(name, entry));
  // A file's own name may name the patient, so it stays here.
  form.append("file", file, "upload");
  return form;
}

function sent(upload, part) {
  if (part < 1) tell(upload, "up_sending", { percent: Math.floor(100 * part) }, part);
  else tell(upload, "up_accepting");
}

function accepted(upload, job) {
  upload.words = null;
  follow(upload, job);
  onJobs();
  watch();
}

async function watch() {
  if (watching) return;
  watching = true;
  for (let wait = 250; ; wait = 1000) {
    const open = uploads.filter((upload) => upload.job && !ENDED.includes(upload.job.state));
    if (!open.length) break;
    await pause(wait);
    await lookAfter(open).catch(() => {});
  }
  watching = false;
}

async function lookAfter(open) {
  const page = await fetchJson("/jobs?limit=50");
  const newest = new Map(page.jobs.map((job) => [job.id, job]));
  for (const upload of open) {
    follow(upload, newest.get(upload.job.id) ?? (await fetchJson(`/jobs/${upload.job.id}`)));
  }
  onJobs(page);
}

function follow(upload, job) {
  const news = upload.job?.state !== job.state;
  upload.job = job;
  show(upload);
  if (!news) return;
  announce(`${upload.file.name}: ${stateText(upload)}`);
  const waitsForIt = upload.alone && uploads[0] === upload && ["", "#"].includes(location.hash);
  if (job.state === "done" && waitsForIt) location.hash = `#job=${job.id}`;
}

function tell(upload, words, values = {}, part = null) {
  Object.assign(upload, { words: [words, values], part });
  show(upload);
}

function stateText({ words, job }) {
  return words ? say(...words) : jobStateText(job);
}

/** Return what a job's state is in words, with its place in the queue or the server's reason. */
export function jobStateText(job) {
  if (job.state === "queued" && job.position) return say("state_queued_place", { place: job.position });
  const text = say(`state_${job.state}`);
  return job.error ? `${text}: ${codedText(job.error)}` : text;
}

function show(upload) {
  const { node, file, part, job, words } = upload;
  const bad = words?.[0] === "up_gave_up" || ["rejected", "failed"].includes(job?.state);
  const again = () => {
    upload.retry = false;
    tell(upload, "up_waiting");
    sendAll();
  };
  node.className = bad ? "bad" : "";
  const sending = words?.[0] === "up_sending";
  node.replaceChildren(
    element("span.name", file.name),
    element("span.state", stateText(upload)),
    sending ? element("progress", { max: 1, value: part, "aria-label": file.name }) : "",
    upload.retry ? button(say("try_again"), again) : "",
    job?.state === "done" ? element("a.button", { href: `#job=${job.id}` }, say("open")) : "",
  );
}
