// Delivers the outbox to Python: in order within a note, several notes at a time. While
// Python cannot be reached one note at a time is tried, with growing pauses; what Python
// refuses for good is parked. A row is dropped only after Python's answer, and revisions make
// a repeated delivery harmless, so the process may die at any point.
import { setTimeout as delay } from "node:timers/promises";
import { type AiClient, statusName } from "../ai/client.ts";
import { backgroundContext, traceIdOf } from "../context.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import type { OutboxRepository, OutboxRow } from "./repository.ts";

/** A note as it is indexed. */
export type IndexedNote = {
  id: string;
  title: string;
  text: string;
  owner: string;
  readers: string[];
  revision: number;
};

export type OutboxDependencies = {
  rows: OutboxRepository;
  findNote: (id: string) => IndexedNote | undefined;
  ai: AiClient;
  log: Log;
  metrics: Metrics;
  config: { concurrency: number; maxBackoffMs: number; poisonAttempts: number };
};

/** Statuses that say that this very document will never be accepted. */
const POISON = new Set(["INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"]);
/** Statuses that may be the document's fault; given up after many more attempts. */
const SUSPECT = new Set(["INTERNAL", "UNKNOWN", "DATA_LOSS"]);
const SUSPECT_FACTOR = 10;
const FIRST_BACKOFF_MS = 100;

export class OutboxWorker {
  readonly #deps: OutboxDependencies;
  readonly #busy = new Set<string>();
  readonly #running = new Set<Promise<void>>();
  readonly #stop = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  /** Consecutive failures that were not about a document. */
  #outages = 0;
  #pausedUntil = 0;

  constructor(deps: OutboxDependencies) {
    this.#deps = deps;
  }

  /** Delivers what is due. Call it at start and after every commit that added a row. */
  wake = () => {
    clearTimeout(this.#timer);
    if (this.#stop.signal.aborted) return;
    const now = Date.now();
    if (now < this.#pausedUntil) return this.#wakeAt(this.#pausedUntil);
    const { rows, config } = this.#deps;
    const free = (this.#outages > 0 ? 1 : config.concurrency) - this.#busy.size;
    if (free <= 0) return;
    const due = rows.due(now, free, this.#busy);
    for (const row of due) this.#start(row);
    const next = due.length === 0 ? rows.nextDueAt() : undefined;
    // A row that is due already belongs to a busy note, whose end wakes the worker.
    if (next !== undefined && next > now) this.#wakeAt(next);
  };

  /** Stops picking rows, gives running deliveries the time, then cancels them. */
  async stop(withinMs: number) {
    clearTimeout(this.#timer);
    const drained = Promise.allSettled(this.#running);
    const timer = new AbortController();
    await Promise.race([drained, delay(withinMs, undefined, { signal: timer.signal }).catch(() => {})]);
    timer.abort();
    this.#stop.abort();
    await Promise.allSettled(this.#running);
  }

  #start(row: OutboxRow) {
    this.#busy.add(row.note_id);
    const delivery = this.#deliver(row).catch((error) => this.#broken(error));
    void delivery.finally(() => {
      this.#busy.delete(row.note_id);
      this.#running.delete(delivery);
      this.wake();
    });
    this.#running.add(delivery);
  }

  async #deliver(row: OutboxRow) {
    const { rows, metrics, log } = this.#deps;
    const context = backgroundContext({ requestId: row.request_id, traceparent: row.traceparent });
    const { note_id, revision } = row;
    try {
      await this.#send(row, context);
    } catch (error) {
      if (!this.#stop.signal.aborted) this.#failed(row, error);
      return;
    }
    this.#outages = 0;
    rows.delivered(row);
    metrics.outboxDelivered.inc();
    log.debug({ note_id, revision, request_id: context.requestId, trace_id: traceIdOf(context) }, "indexed");
  }

  async #send(row: OutboxRow, context: ReturnType<typeof backgroundContext>) {
    const { ai, findNote } = this.#deps;
    const id = `notes/${row.note_id}`;
    const revision = BigInt(row.revision);
    const note = row.operation === "index" ? findNote(row.note_id) : undefined;
    if (!note) return void (await ai.delete({ documentId: id, revision }, context, this.#stop.signal));
    const { title, text, owner, readers } = note;
    const document = { id, collection: "notes", title, text, owner, readers, uri: `/api/notes/${note.id}` };
    await ai.index({ document: { ...document, revision: BigInt(note.revision) } }, context, this.#stop.signal);
  }

  #failed(row: OutboxRow, error: unknown) {
    const { rows, metrics, log, config } = this.#deps;
    const status = statusName(error);
    const reason = error instanceof Error ? error.message : String(error);
    const about = { note_id: row.note_id, revision: row.revision, attempt: row.attempts + 1, status };
    metrics.outboxFailures.inc({ status });
    if (status === "NOT_FOUND" && row.operation === "delete") return rows.delivered(row);
    if (row.attempts + 1 >= this.#patience(status, config.poisonAttempts)) {
      log.error({ ...about, reason }, "note parked: it cannot be indexed");
      return rows.park(row, reason);
    }
    if (!POISON.has(status) && !SUSPECT.has(status)) {
      this.#outages += 1;
      this.#pausedUntil = Date.now() + this.#backoff(this.#outages);
    }
    // One line for each outage, not one for each try.
    log[this.#outages === 1 || POISON.has(status) ? "warn" : "debug"]({ ...about, reason }, "delivery failed");
    rows.postpone(row, Date.now() + this.#backoff(row.attempts + 1), reason);
  }

  /** The outbox itself cannot be written (a full disk). The row is still there for later. */
  #broken(error: unknown) {
    this.#deps.log.error({ err: error }, "outbox not written");
    this.#pausedUntil = Date.now() + this.#deps.config.maxBackoffMs;
  }

  #patience(status: string, poisonAttempts: number): number {
    if (POISON.has(status)) return poisonAttempts;
    return SUSPECT.has(status) ? poisonAttempts * SUSPECT_FACTOR : Number.POSITIVE_INFINITY;
  }

  /** Exponential, with full jitter above the first half. */
  #backoff(attempt: number): number {
    const ceiling = Math.min(this.#deps.config.maxBackoffMs, FIRST_BACKOFF_MS * 2 ** Math.min(attempt - 1, 20));
    return Math.ceil(ceiling * (0.5 + Math.random() / 2));
  }

  #wakeAt(time: number) {
    this.#timer = setTimeout(this.wake, Math.max(1, time - Date.now())).unref();
  }
}
