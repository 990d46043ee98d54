// Time and chance, given to the core from outside, so that tests run it in virtual time.

export interface Clock {
  /** Milliseconds; only differences count. */
  now(): number;
  /** Runs something later; the function that is returned calls it off. */
  after(ms: number, run: () => void): () => void;
  /** From 0 up to, not including, 1. */
  random(): number;
}

/** Longer timers overflow to 1 ms in browsers and Node. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => performance.now(),
  after(ms, run) {
    const timer = setTimeout(run, Math.min(Math.max(ms, 0), MAX_TIMER_MS));
    return () => clearTimeout(timer);
  },
  random: Math.random,
};

/**
 * Exponential backoff with full jitter: anything up to the bound, so that clients that lost their connections at the
 * same time do not come back at the same time (M. Brooker, "Exponential Backoff And Jitter", 2015).
 */
export function backoff(clock: Clock, attempt: number, { baseMs, maxMs }: { baseMs: number; maxMs: number }): number {
  return clock.random() * Math.min(maxMs, baseMs * 2 ** Math.min(attempt, 30));
}
