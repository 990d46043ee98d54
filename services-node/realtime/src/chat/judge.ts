// Asks Python how offensive texts are: a few calls at a time, and what comes meanwhile goes together with the next one, so
// that a busy room costs fewer calls and not more waiting. Each text has its own bound on the wait.
import { status } from "@grpc/grpc-js";
import type { AiClient } from "../ai/client.ts";
import type { RequestContext } from "../context.ts";
import { Problem } from "../problems.ts";

type Job = {
  text: string;
  context: RequestContext;
  resolve: (score: number) => void;
  reject: (error: unknown) => void;
};

const CALLS = 4;
const BATCH = 16;
/** Further texts are not waited for. */
const WAITING = 256;

export class Judge {
  readonly #ai: Pick<AiClient, "moderate">;
  readonly #withinMs: number;
  readonly #waiting = new Set<Job>();
  #calls = 0;

  constructor(ai: Pick<AiClient, "moderate">, withinMs: number) {
    this.#ai = ai;
    this.#withinMs = withinMs;
  }

  /** From 0 to 1. Rejects after the bound, when nobody waits any more, and when too many wait. */
  async score(text: string, context: RequestContext, signal: AbortSignal): Promise<number> {
    if (this.#waiting.size >= WAITING) throw new Problem("overloaded", "Too many texts wait to be judged.");
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const job = { text, context, resolve, reject };
    const late = () => reject(Object.assign(new Error("too late"), { code: status.DEADLINE_EXCEEDED }));
    const timer = setTimeout(late, this.#withinMs);
    signal.addEventListener("abort", late, { once: true });
    this.#waiting.add(job);
    this.#next();
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", late);
      this.#waiting.delete(job);
    }
  }

  #next() {
    if (this.#calls >= CALLS || this.#waiting.size === 0) return;
    const jobs = [...this.#waiting].slice(0, BATCH);
    for (const job of jobs) this.#waiting.delete(job);
    this.#calls += 1;
    void this.#call(jobs).finally(() => {
      this.#calls -= 1;
      this.#next();
    });
  }

  /** The call goes on with the trace of the first text. */
  async #call(jobs: Job[]) {
    const context = { ...jobs[0]!.context, deadline: new Date(Date.now() + this.#withinMs) };
    try {
      const { moderations } = await this.#ai.moderate({ texts: jobs.map(({ text }) => text) }, context);
      for (const [index, job] of jobs.entries()) job.resolve(offence(moderations[index]));
    } catch (error) {
      for (const job of jobs) job.reject(error);
    }
  }
}

/** The highest of a text's scores. */
export function offence(judged: { labels: { score: number }[] } | undefined): number {
  return Math.max(0, ...(judged?.labels.map(({ score }) => score) ?? []));
}
