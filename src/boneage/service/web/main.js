/** The reading room's front: which page is shown, the language, and problems that nothing else shows. */
import { fetchJson } from "./api.js";
import { openCalculator } from "./calculator.js";
import { byId, showProblem } from "./dom.js";
import { openReading } from "./reading.js";
import { openUpload } from "./upload.js";
import { openWorklist, refresh } from "./worklist.js";
import { codedText, inEachLanguage, say, switchLanguage, translatePage } from "./words.js";

const PAGES = ["home", "reading", "calculator"];
let shown = new AbortController();

// A page is named by the address, so that reload, back and a link to a result work.
async function route() {
  shown.abort();
  shown = new AbortController();
  const { signal } = shown;
  const job = /^#job=([\w-]+)$/.exec(location.hash)?.[1];
  const page = job ? "reading" : location.hash === "#calculator" ? "calculator" : "home";
  for (const name of PAGES) byId(name).hidden = name !== page;
  for (const name of ["reading", "calculator"]) byId(name).replaceChildren();
  for (const name of ["home", "calculator"]) byId(`nav-${name}`).ariaCurrent = name === page ? "page" : null;
  document.body.className = `on-${page}`;
  showProblem(byId("problem"), null);
  window.scrollTo(0, 0);
  try {
    if (page === "home") await refresh();
    else if (job) await openReading(byId("reading"), job, signal);
    else await openCalculator(byId("calculator"), signal);
  } catch (error) {
    if (signal.aborted) return;
    showProblem(byId("problem"), codedText(error));
  }
}

async function start() {
  translatePage();
  inEachLanguage(() => {
    byId("language").textContent = say("other_language");
    byId("language").lang = say("other_language") === "English" ? "en" : "zh-Hans";
  });
  byId("language").addEventListener("click", switchLanguage);
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("main").focus();
  });
  window.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    if (event.reason?.name !== "AbortError") showProblem(byId("problem"), codedText(event.reason));
  });
  window.addEventListener("hashchange", () => {
    route();
    byId("main").focus({ preventScroll: true });
  });
  const info = await fetchJson("/info");
  inEachLanguage(() => {
    const kept = info.retention_days ? ` ${say("kept_days", { days: info.retention_days })}` : "";
    byId("about").textContent = say("about", info) + kept;
  });
  openUpload(info, (page) => byId("home").hidden || refresh(page));
  openWorklist();
  await route();
}

start();
