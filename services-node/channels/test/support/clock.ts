// Virtual time: nothing happens until a test says that time passes, and then in the order in which it is due.
import type { Clock } from "../../src/core/clock.ts";

type Task = { at: number; order: number; run: () => void };

/** Lets promises settle. */
export const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

export class VirtualClock implements Clock {
  #now = 0;
  #order = 0;
  #seed: number;
  readonly #tasks = new Set<Task>();

  constructor(seed = 1) {
    this.#seed = seed;
  }

  now = () => this.#now;

  after(ms: number, run: () => void): () => void {
    const task = { at: this.#now + Math.max(0, ms), order: this.#order++, run };
    this.#tasks.add(task);
    return () => void this.#tasks.delete(task);
  }

  /** mulberry32: the same for the same seed. */
  random = () => {
    this.#seed = (this.#seed + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#seed ^ (this.#seed >>> 15), 1 | this.#seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };

  get pending(): number {
    return this.#tasks.size;
  }

  async advance(ms: number) {
    const end = this.#now + ms;
    await settle();
    for (;;) {
      const due = [...this.#tasks].filter((task) => task.at <= end);
      const next = due.sort((a, b) => a.at - b.at || a.order - b.order)[0];
      if (!next) break;
      this.#tasks.delete(next);
      this.#now = next.at;
      next.run();
      await settle();
    }
    this.#now = end;
  }
}
