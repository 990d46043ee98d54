// The assistant: questions are rows, so a restart asks again. So many answers are written at a time; subscribers of
// answers:<room> see the text so far, ten times a second at most, and in the end it becomes a message. A cancelled answer
// stops the work in Python, and becomes none.
import { status } from "@grpc/grpc-js";
import { type AiClient, statusName } from "../ai/client.ts";
import type { Channels } from "../channels/channels.ts";
import { backgroundContext } from "../context.ts";
import type { GroupCommit } from "../db/group.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import { Problem } from "../problems.ts";
import type { Messages, Question } from "./messages.ts";
import type { Reviews } from "./reviews.ts";
import type { Rooms } from "./rooms.ts";
import type { AnswerState } from "./schemas.ts";
import { write } from "./writer.ts";

type Dependencies = {
  ai: Pick<AiClient, "answer" | "chat">;
  rooms: Rooms;
  messages: Messages;
  reviews: Reviews;
  group: GroupCommit;
  channels: Pick<Channels, "tell" | "keep">;
  log: Log;
  metrics: Metrics;
  config: { answerMs: number; answers: number };
};

type Run = { control: AbortController; state: AnswerState };

const UPDATE_MS = 100;
const ATTEMPTS = 3;
const PAUSE_MS = 1_000;
const TEXT_LENGTH = 4_000;
/** What may go better another time. */
const TRANSIENT = new Set<string>([status[status.UNAVAILABLE], status[status.RESOURCE_EXHAUSTED]] as string[]);

/** Names a question's answer. */
export const answerId = (question: number) => `a${question}`;

export class Answers {
  readonly #deps: Dependencies;
  readonly #runs = new Map<number, Run>();
  readonly #paused = new Map<number, NodeJS.Timeout>();
  #stopped = false;

  constructor(deps: Dependencies) {
    this.#deps = deps;
  }

  get running(): number {
    return this.#runs.size;
  }

  /** Begins with what waits, oldest first. Called at the start, and after every question. */
  wake = () => {
    if (this.#stopped) return;
    const { config, messages } = this.#deps;
    const free = config.answers - this.#runs.size;
    if (free <= 0) return;
    const busy = this.#runs.size + this.#paused.size;
    const waiting = messages.questions(free + busy).filter(({ id }) => !this.#runs.has(id) && !this.#paused.has(id));
    for (const question of waiting.slice(0, free)) this.#start(question);
  };

  /** Ends an answer at the wish of who asked. */
  cancel(id: string, subject: string) {
    const number = Number(id.slice(1));
    const question = this.#deps.messages.question(number);
    if (!question) throw new Problem("not_found", `There is no answer ${id} that could be cancelled.`);
    if (question.author !== subject) throw new Problem("permission_denied", "Only who asked may cancel an answer.");
    this.drop(question.id);
  }

  /** The question is gone: nobody wants its answer. */
  drop(id: number) {
    const question = this.#deps.messages.question(id);
    const run = this.#runs.get(id);
    if (!question && !run) return;
    this.#deps.messages.closeQuestion(id);
    clearTimeout(this.#paused.get(id));
    this.#paused.delete(id);
    if (run) run.control.abort();
    else if (question) this.#end(question.room, newState(question), "cancelled");
  }

  /** Questions stay for the next process. */
  stop() {
    this.#stopped = true;
    for (const timer of this.#paused.values()) clearTimeout(timer);
    for (const { control } of this.#runs.values()) control.abort();
  }

  #start(question: Question) {
    const run = { control: new AbortController(), state: newState(question) };
    this.#runs.set(question.id, run);
    void this.#run(question, run)
      .catch((error) => this.#deps.log.error({ err: error }, "an answer was not kept"))
      .finally(() => {
        this.#runs.delete(question.id);
        this.wake();
      });
  }

  async #run(question: Question, { control, state }: Run) {
    const { ai, config } = this.#deps;
    this.#deps.messages.tried(question.id);
    const updates = new Updates(() => this.#tell(question.room, state));
    const context = backgroundContext();
    try {
      const call = { context, limitMs: config.answerMs, signal: control.signal };
      updates.push();
      state.status = "writing";
      await write(ai, question, state, updates.push, call);
    } catch (error) {
      updates.stop();
      return this.#failed(question, state, control.signal, error);
    }
    updates.stop();
    if (this.#stopped) return;
    if (control.signal.aborted) return this.#end(question.room, state, "cancelled");
    await this.#keep(question, state, control.signal);
  }

  /** Makes the text a message, unless it reads as offensive. */
  async #keep(question: Question, state: AnswerState, signal: AbortSignal) {
    const { rooms, messages, reviews, group, channels } = this.#deps;
    const text = state.text.trim().slice(0, TEXT_LENGTH).toWellFormed() || "…";
    const { citations, model, notice } = state;
    try {
      const review = await reviews.judge(text, backgroundContext(), signal);
      const published = await group.run(() => {
        if (signal.aborted || !messages.question(question.id)) return undefined;
        const room = rooms.enter(question.room, question.author);
        const published = messages.answer(room, text, { to: question.id, model, notice, citations }, review);
        channels.keep({ channel: `chat:${room.name}`, key: `answer:${question.id}`, data: published });
        return published;
      });
      if (!published && this.#stopped) return;
      if (!published) return this.#end(question.room, state, "cancelled");
      if (review === "pending") reviews.wake();
      this.#end(question.room, { ...state, message: published.id }, "done");
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      messages.closeQuestion(question.id);
      this.#end(question.room, { ...state, text: "", reason: error.reason }, "failed");
    }
  }

  #failed(question: Question, state: AnswerState, signal: AbortSignal, error: unknown) {
    const { messages, log } = this.#deps;
    if (this.#stopped) return;
    if (signal.aborted) return this.#end(question.room, state, "cancelled");
    const reason = statusName(error);
    if (reason === "UNKNOWN") log.error({ err: error }, "an answer failed");
    if (TRANSIENT.has(reason) && question.attempts + 1 < ATTEMPTS) {
      this.#tell(question.room, { ...newState(question), status: "waiting", reason: "unavailable" });
      const again = () => {
        this.#paused.delete(question.id);
        this.wake();
      };
      this.#paused.set(question.id, setTimeout(again, PAUSE_MS * (0.5 + Math.random())).unref());
      return;
    }
    messages.closeQuestion(question.id);
    const why = reason === "DEADLINE_EXCEEDED" ? "too_late" : TRANSIENT.has(reason) ? "unavailable" : "internal";
    this.#end(question.room, { ...state, reason: why }, "failed");
  }

  #end(room: string, state: AnswerState, status: "done" | "cancelled" | "failed") {
    this.#deps.metrics.chatAnswers.inc({ outcome: status });
    this.#tell(room, { ...state, status });
  }

  #tell(room: string, data: AnswerState) {
    this.#deps.channels.tell({ channel: `answers:${room}`, latestKey: data.id, data: { ...data } });
  }
}

function newState({ id, author }: Question): AnswerState {
  const nothing = { text: "", citations: [], model: "", notice: "" };
  return { id: answerId(id), question: id, asked_by: author, status: "waiting", ...nothing };
}

/** Tells at once, and then at most every so often; always the newest. */
class Updates {
  readonly #tell: () => void;
  #last = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(tell: () => void) {
    this.#tell = tell;
  }

  push = () => {
    if (this.#timer) return;
    const wait = this.#last + UPDATE_MS - performance.now();
    if (wait <= 0) return this.#now();
    this.#timer = setTimeout(() => this.#now(), wait).unref();
  };

  stop() {
    clearTimeout(this.#timer);
  }

  #now() {
    this.#timer = undefined;
    this.#last = performance.now();
    this.#tell();
  }
}
