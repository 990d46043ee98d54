// A message is judged before it is published, where Python answers in time. Otherwise it is published as pending, and
// judged later: its row says so, and so it survives a restart. What then turns out bad is withdrawn.
import { type AiClient, statusName } from "../ai/client.ts";
import type { Channels } from "../channels/channels.ts";
import { backgroundContext, type RequestContext } from "../context.ts";
import type { GroupCommit } from "../db/group.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import { Problem } from "../problems.ts";
import { Judge, offence } from "./judge.ts";
import type { Messages, Pending } from "./messages.ts";
import type { Publication, Review } from "./schemas.ts";

type Dependencies = {
  ai: Pick<AiClient, "moderate">;
  messages: Messages;
  group: GroupCommit;
  channels: Pick<Channels, "keep">;
  log: Log;
  metrics: Metrics;
  config: { reviewMs: number; refuseScore: number };
};

const BATCH = 16;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;

export class Reviews {
  readonly #deps: Dependencies;
  readonly #judge: Judge;
  readonly #stop = new AbortController();
  #running = false;
  /** Something became pending while this ran. */
  #again = false;
  #failures = 0;
  #timer: NodeJS.Timeout | undefined;
  #withdrawn: (id: number) => void = () => {};

  constructor(deps: Dependencies) {
    this.#deps = deps;
    this.#judge = new Judge(deps.ai, deps.config.reviewMs);
  }

  /** Hears of every message that is withdrawn. */
  onWithdrawn(listener: (id: number) => void) {
    this.#withdrawn = listener;
  }

  /** The judgement of a text, within the bound. Throws the problem where it is not to be published. */
  async judge(text: string, context: RequestContext, signal: AbortSignal): Promise<Review> {
    const { config, metrics } = this.#deps;
    let score: number;
    try {
      score = await this.#judge.score(text, context, signal);
    } catch (error) {
      if (error instanceof Problem) return this.#count("skipped", "pending");
      return this.#count(statusName(error) === "DEADLINE_EXCEEDED" ? "late" : "unavailable", "pending");
    }
    if (score < config.refuseScore) return this.#count("judged", verdict(score));
    metrics.chatReviews.inc({ outcome: "refused" });
    throw new Problem("permission_denied", "The message reads as offensive; say it differently.", {
      reason: "offensive",
    });
  }

  /** Judges what is pending. Called at the start, and after every message that is. */
  wake = () => {
    this.#again = this.#running;
    if (this.#running || this.#timer || this.#stop.signal.aborted) return;
    this.#running = true;
    void this.#catchUp().finally(() => {
      this.#running = false;
      if (this.#again) this.wake();
    });
  };

  stop() {
    this.#stop.abort();
    clearTimeout(this.#timer);
  }

  async #catchUp() {
    const { ai, messages, log } = this.#deps;
    try {
      for (let due = messages.pending(BATCH); due.length > 0; due = messages.pending(BATCH)) {
        const texts = due.map(({ text }) => text);
        const { moderations } = await ai.moderate({ texts }, backgroundContext(), this.#stop.signal);
        this.#failures = 0;
        await this.#settle(due, moderations.map(offence));
      }
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      if (this.#failures === 0) log.warn({ status: statusName(error) }, "messages wait for their review");
      const ceiling = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(this.#failures++, 10));
      this.#timer = setTimeout(
        () => {
          this.#timer = undefined;
          this.wake();
        },
        ceiling * (0.5 + Math.random() / 2),
      ).unref();
    }
  }

  async #settle(due: Pending[], scores: number[]) {
    const { messages, channels, config, group } = this.#deps;
    const withdrawn: number[] = [];
    await group.run(() => {
      for (const [index, one] of due.entries()) {
        const review = verdict(scores[index]!);
        const bad = scores[index]! >= config.refuseScore;
        // Changed meanwhile: it has been judged with its new text, or will be.
        if (!(bad ? messages.withdraw(one) : messages.judge(one, review))) continue;
        const data: Publication = bad ? { type: "withdrawn", id: one.id } : { type: "reviewed", id: one.id, review };
        channels.keep({ channel: `chat:${one.room}`, key: `review:${one.id}:${Date.now()}`, data });
        if (bad) withdrawn.push(one.id);
        this.#count(bad ? "withdrawn" : "judged_later", review);
      }
    });
    for (const id of withdrawn) this.#withdrawn(id);
  }

  #count(outcome: string, review: Review): Review {
    this.#deps.metrics.chatReviews.inc({ outcome });
    return review;
  }
}

/** As the contract has it: flagged from 0.5. */
function verdict(score: number): Review {
  return score >= 0.5 ? "flagged" : "passed";
}
