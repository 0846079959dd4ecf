/** Saves the newest of a run of values, one at a time, again and again until the server has it. */
import { pause } from "./dom.js";

const LONGEST_WAIT_MS = 30_000;
const SETTLE_MS = 250;

const unsaved = new Set();

// Closing the page would lose what is not saved yet.
window.addEventListener("beforeunload", (event) => unsaved.size && event.preventDefault());

/** A saver; `save` stores a value, `onState` hears `saved`, `saving`, or `unsaved` with the error. */
export class Saver {
  constructor(save, onState) {
    Object.assign(this, { save, onState, value: null, running: null });
    window.addEventListener("online", () => this.tryNow());
  }

  /** Save this value in place of any that waits. */
  put(value) {
    this.value = { value };
    unsaved.add(this);
    this.onState("saving");
    this.tryNow();
  }

  /** Try at once what waits. */
  tryNow() {
    this.wake?.();
    if (this.value) this.running ??= this.run();
  }

  /** Try at once what waits, and return when it is saved or refused. */
  async settled() {
    this.tryNow();
    await this.running;
  }

  async run() {
    await pause(SETTLE_MS);
    for (let failures = 0; this.value; ) {
      const taken = this.value;
      this.value = null;
      const error = await this.attempt(taken.value);
      if (!error) continue;
      this.value ??= taken;
      this.onState("unsaved", error);
      if (isFinal(error)) break;
      failures += 1;
      await this.waitToTryAgain(failures);
    }
    this.running = null;
    if (this.value) return;
    unsaved.delete(this);
    this.onState("saved");
  }

  async attempt(value) {
    this.onState("saving");
    try {
      await this.save(value);
      return null;
    } catch (error) {
      return error;
    }
  }

  waitToTryAgain(failures) {
    const early = new Promise((resolve) => (this.wake = resolve));
    const late = pause(Math.min(LONGEST_WAIT_MS, 1000 * 2 ** failures));
    return Promise.race([early, late]).then(() => (this.wake = null));
  }
}

// What the server refuses as wrong stays wrong until it is changed.
function isFinal({ status }) {
  return status >= 400 && status < 500 && status !== 429;
}
