/** The page's words in the chosen language. */
import en from "./words_en.js";
import zh, { GISTS } from "./words_zh.js";

const LANGUAGES = { en, zh };
const STORED = "boneage.language";

let current = firstLanguage();

function firstLanguage() {
  const kept = fromStorage();
  if (kept in LANGUAGES) return kept;
  const wanted = (navigator.languages ?? [navigator.language]).map((name) => name.slice(0, 2).toLowerCase());
  return wanted.find((name) => name in LANGUAGES) ?? "en";
}

// A browser may forbid storage; the page then forgets the choice on reload.
function fromStorage() {
  try {
    return localStorage.getItem(STORED);
  } catch {
    return null;
  }
}

/** Return the chosen language, `en` or `zh`. */
export function language() {
  return current;
}

/** Choose the other language, keep the choice, and tell everyone by the document's `language` event. */
export function switchLanguage() {
  current = current === "en" ? "zh" : "en";
  try {
    localStorage.setItem(STORED, current);
  } catch {
    // Only remembering is lost.
  }
  translatePage();
  document.dispatchEvent(new Event("language"));
}

/** Return whether the page has words under a key. */
export function hasWords(key) {
  return key in en;
}

/** Return the words under a key, with {names} filled in. */
export function say(key, values = {}) {
  const text = LANGUAGES[current][key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** Return the words for a whole number of things; one of them has words of its own. */
export function sayCount(key, count) {
  return say(count === 1 ? `${key}_one` : key, { count });
}

/** Put the chosen language into all of the page's marked elements. */
export function translatePage() {
  document.documentElement.lang = current === "zh" ? "zh-Hans" : "en";
  document.title = say("page_title");
  for (const node of document.querySelectorAll("[data-say]")) node.textContent = say(node.dataset.say);
  for (const node of document.querySelectorAll("[data-say-label]")) {
    node.setAttribute("aria-label", say(node.dataset.sayLabel));
  }
}

/** Return a message of the server, which is English, in a sentence; in Chinese its gist goes before it. */
export function codedText({ code, message, text } = {}) {
  const words = message ?? text ?? "";
  const sentence = words.charAt(0).toUpperCase() + words.slice(1);
  return current === "zh" && code in GISTS ? GISTS[code] + sentence : sentence;
}

/** Call `render` now and after each change of language, until `signal` ends it. */
export function inEachLanguage(render, signal) {
  document.addEventListener("language", render, { signal });
  render();
}
