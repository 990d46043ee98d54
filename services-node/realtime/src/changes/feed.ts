// Fan-out of committed changes to connected clients. A change is encoded once and handed to
// the clients of its audience; no client costs a query. A client that does not read is
// closed when its unsent bytes pass a bound, and resumes from its last id.
import { type Change, EVERYBODY } from "../db/journal.ts";
import type { Metrics } from "../metrics.ts";
import type { ChangeRepository, StoredChange } from "./repository.ts";

/** Where a client's events go: an HTTP response. */
export type Sink = {
  write(chunk: string): boolean;
  readonly writableLength: number;
  readonly destroyed: boolean;
  once(event: "drain" | "close", listener: () => void): unknown;
  end(): unknown;
  destroy(): unknown;
};

type Client = { subject: string; sink: Sink };
type FeedConfig = { retained: number; heartbeatMs: number; bufferBytes: number };

const PAGE = 500;
const PRUNE_INTERVAL_MS = 30_000;
const RETRY_MS = { base: 1_000, spread: 2_000 };

export class ChangeFeed {
  readonly #stored: ChangeRepository;
  readonly #config: FeedConfig;
  readonly #metrics: Metrics;
  readonly #clients = new Map<string, Set<Client>>();
  readonly #replaying = new Set<Sink>();
  readonly #timers: NodeJS.Timeout[];
  #position: number;

  constructor(stored: ChangeRepository, config: FeedConfig, metrics: Metrics) {
    this.#stored = stored;
    this.#config = config;
    this.#metrics = metrics;
    this.#position = stored.latest();
    this.#timers = [
      setInterval(() => this.#heartbeat(), config.heartbeatMs).unref(),
      setInterval(() => this.prune(), PRUNE_INTERVAL_MS).unref(),
    ];
  }

  get size(): number {
    let count = this.#replaying.size;
    for (const clients of this.#clients.values()) count += clients.size;
    return count;
  }

  /** Sends a committed change to whom it concerns. */
  publish = (change: Change) => {
    this.#position = change.seq;
    const changed = encode({ ...change, visible: 1 });
    const removed = encode({ ...change, visible: 0 });
    const everybody = [change.visibleTo, change.removedFrom].some((subjects) => subjects.includes(EVERYBODY));
    const subjects = everybody ? [...this.#clients.keys()] : [...change.visibleTo, ...change.removedFrom];
    for (const subject of subjects) {
      const visible = change.visibleTo.includes(subject) || change.visibleTo.includes(EVERYBODY);
      for (const client of this.#clients.get(subject) ?? []) this.#send(client, visible ? changed : removed);
    }
  };

  /**
   * Sends what the client missed after a position, then everything live, without a gap: the
   * last page and the subscription happen in one turn of the event loop.
   */
  async connect(subject: string, sink: Sink, after: number | undefined): Promise<void> {
    this.#replaying.add(sink);
    sink.once("close", () => this.#replaying.delete(sink));
    let position = this.#greet(sink, after);
    for (;;) {
      const page = this.#stored.page(subject, position, PAGE);
      const written = sink.write(page.map(encode).join(""));
      this.#metrics.sseEvents.inc(page.length);
      position = page.at(-1)?.seq ?? position;
      if (page.length < PAGE) break;
      if (!written) await drained(sink);
      else await new Promise(setImmediate);
      if (sink.destroyed || !this.#replaying.has(sink)) return;
    }
    this.#replaying.delete(sink);
    this.#add({ subject, sink });
  }

  /** Drops changes beyond the bound, in batches that leave the event loop room. */
  prune() {
    if (this.#stored.prune(this.#config.retained)) setImmediate(() => this.prune());
  }

  /** Ends every client's stream; they resume elsewhere or later. */
  close() {
    for (const timer of this.#timers) clearInterval(timer);
    for (const clients of this.#clients.values()) for (const { sink } of clients) sink.end();
    for (const sink of this.#replaying) sink.end();
    this.#clients.clear();
    this.#replaying.clear();
  }

  /** The first event: the position, and whether what followed the asked one is lost. */
  #greet(sink: Sink, after: number | undefined): number {
    const latest = this.#position;
    const lost = after !== undefined && (after < this.#stored.floor() || after > latest);
    const position = after === undefined || lost ? latest : after;
    const retry = Math.round(RETRY_MS.base + Math.random() * RETRY_MS.spread);
    if (lost) this.#metrics.sseResets.inc();
    sink.write(
      `retry: ${retry}\nid: ${position}\nevent: ${lost ? "reset" : "ready"}\ndata: {"position":${position}}\n\n`,
    );
    return position;
  }

  #add(client: Client) {
    const clients = this.#clients.get(client.subject) ?? new Set();
    this.#clients.set(client.subject, clients.add(client));
    client.sink.once("close", () => {
      clients.delete(client);
      if (clients.size === 0 && this.#clients.get(client.subject) === clients) this.#clients.delete(client.subject);
    });
  }

  #send({ sink }: Client, event: string) {
    if (sink.destroyed) return;
    if (sink.writableLength + event.length > this.#config.bufferBytes) {
      this.#metrics.sseSlowClients.inc();
      sink.destroy();
      return;
    }
    sink.write(event);
    this.#metrics.sseEvents.inc();
  }

  /** Carries the position, so that a client to whom nothing happened does not fall behind. */
  #heartbeat() {
    const beat = `: keep-alive\nid: ${this.#position}\n\n`;
    for (const clients of this.#clients.values()) for (const client of clients) this.#send(client, beat);
  }
}

function encode(change: Pick<StoredChange, "seq" | "kind" | "note_id" | "revision" | "at" | "visible">): string {
  const { seq, kind, note_id: id, revision, at } = change;
  const [event, what] = change.visible ? ["changed", kind] : ["removed", kind === "deleted" ? "deleted" : "withdrawn"];
  return `id: ${seq}\nevent: ${event}\ndata: ${JSON.stringify({ kind: what, id, revision, at })}\n\n`;
}

function drained(sink: Sink): Promise<void> {
  return new Promise((resolve) => {
    sink.once("drain", resolve);
    sink.once("close", resolve);
  });
}
