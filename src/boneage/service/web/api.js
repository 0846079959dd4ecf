/** The server's API: fetch with the token, and its errors. */
import { byId, showProblem } from "./dom.js";
import { say } from "./words.js";

const BASE = "/api/v1";
const STORED = "boneage.token";
// What a header can carry: with any other letter fetch() throws, as if no server answered.
const SENDABLE = /^[\x20-\x7e]+$/;

/** What the server refused or did not answer; `status` is 0 where it did not answer at all. */
export class ApiError extends Error {
  constructor(status, { code = "error", message = "", fields = [] } = {}, retryAfter = null) {
    super(message || say("server_said", { status }));
    Object.assign(this, { status, code, fields, retryAfter });
  }
}

/** Fetch a path of the API and return the answer; asks for the token where one is needed. */
export async function request(path, { method = "GET", json, headers = {}, signal } = {}) {
  for (;;) {
    const token = storedToken();
    const answer = await attempt(path, token, { method, json, headers, signal });
    if (answer.ok) return answer;
    if (answer.status !== 401) throw await refusal(answer);
    await newToken(token);
  }
}

/** Fetch a path of the API and return the object that it answers. */
export async function fetchJson(path, options) {
  const answer = await request(path, options);
  return answer.status === 204 ? null : answer.json();
}

/** Fetch a file and hand it to the browser as a download. */
export async function download(path) {
  const answer = await request(path);
  const named = /filename="?([^";]+)"?/.exec(answer.headers.get("Content-Disposition") ?? "");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = named?.[1] ?? "boneage";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Post a form, tell how much of it (0 to 1) is sent, and return the object that the server answers. */
export async function postForm(path, form, headers, onSent) {
  for (;;) {
    const token = storedToken();
    const sent = await send(path, form, { ...headers, ...bearer(token) }, onSent);
    if (sent.status !== 401) return settled(sent);
    await newToken(token);
  }
}

// fetch() tells no progress of an upload; XMLHttpRequest does.
function send(path, form, headers, onSent) {
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    call.open("POST", BASE + path);
    Object.entries(headers).forEach(([name, value]) => call.setRequestHeader(name, value));
    call.upload.onprogress = (event) => event.lengthComputable && onSent(event.loaded / event.total);
    call.onload = () => resolve(call);
    call.onerror = call.onabort = call.ontimeout = () => reject(unanswered());
    call.send(form);
  });
}

function settled(call) {
  let body = {};
  try {
    body = JSON.parse(call.responseText);
  } catch {
    // A gateway's own error page; its status says enough.
  }
  if (call.status >= 200 && call.status < 300) return body;
  throw new ApiError(call.status, body, seconds(call.getResponseHeader("Retry-After")));
}

async function attempt(path, token, { method, json, headers, signal }) {
  const content = json === undefined ? {} : { "Content-Type": "application/json" };
  try {
    return await fetch(path.startsWith(BASE) ? path : BASE + path, {
      method,
      signal,
      headers: { ...content, ...headers, ...bearer(token) },
      body: json === undefined ? undefined : JSON.stringify(json),
    });
  } catch (error) {
    throw error.name === "AbortError" ? error : unanswered();
  }
}

async function refusal(answer) {
  const body = await answer.json().catch(() => ({}));
  return new ApiError(answer.status, body, seconds(answer.headers.get("Retry-After")));
}

function unanswered() {
  return new ApiError(0, { code: "network", message: say("network_failure") });
}

function bearer(token) {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

function seconds(text) {
  const value = Number.parseFloat(text);
  return Number.isFinite(value) ? Math.max(1, value) : null;
}

// A token that cannot be sent counts as none, so that it is asked for anew.
function storedToken() {
  const kept = sessionStorage.getItem(STORED);
  return kept !== null && SENDABLE.test(kept) ? kept : null;
}

let asking = null;

/** Wait until there is another token than the one that was refused; all requests share one dialog. */
function newToken(refused) {
  if (storedToken() !== refused) return Promise.resolve();
  asking ??= askToken(refused !== null).finally(() => (asking = null));
  return asking;
}

function askToken(wasRefused) {
  const dialog = byId("token-dialog");
  const form = byId("token-form");
  showProblem(byId("token-problem"), wasRefused ? say("token_refused") : null);
  form.reset();
  if (!dialog.open) dialog.showModal();
  // Without a token nothing works, so Escape does not close the question.
  dialog.oncancel = (event) => event.preventDefault();
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      const token = form.elements.token.value.trim();
      if (!SENDABLE.test(token)) {
        showProblem(byId("token-problem"), say("token_letters"));
        return;
      }
      sessionStorage.setItem(STORED, token);
      dialog.close();
      resolve();
    };
  });
}
