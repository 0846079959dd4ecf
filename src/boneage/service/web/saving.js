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
    window.addEventListener("online", () => this.wake?.());
  }

  /** Save this value in place of any that waits. */
  put(value) {
    this.value = { value };
    unsaved.add(this);
    this.onState("saving");
    this.wake?.();
    this.running ??= this.run().finally(() => (this.running = null));
  }

  /** Try at once what waits, and return when it is saved. */
  async settled() {
    this.wake?.();
    await this.running;
  }

  async run() {
    await pause(SETTLE_MS);
    for (let failures = 0; this.value; ) {
      const { value } = this.value;
      this.value = null;
      try {
        this.onState("saving");
        await this.save(value);
        failures = 0;
      } catch (error) {
        failures += 1;
        this.value ??= { value };
        this.onState("unsaved", error);
        // What the server refuses as wrong stays wrong until it is changed.
        if (error.status >= 400 && error.status < 500 && error.status !== 429) return;
        await this.waitToTryAgain(failures);
      }
    }
    unsaved.delete(this);
    this.onState("saved");
  }

  waitToTryAgain(failures) {
    const early = new Promise((resolve) => (this.wake = resolve));
    return Promise.race([early, pause(Math.min(LONGEST_WAIT_MS, 1000 * 2 ** failures))]).then(() => (this.wake = null));
  }
}
