// What the application publishes by itself, on its way to the gateway. In order, at most so many unanswered and so many
// waiting. What the gateway has not answered is sent again over the next link with its key, so that it is published
// once. Of a latest value that waits only the newest is kept.
import { randomUUID } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { EmitSchema, Emitted } from "@hybrid/contracts/channels";
import type { Metrics } from "../metrics.ts";
import { Problem } from "../problems.ts";
import { toPayload } from "./wire.ts";

/** Something to publish. `removed`: the latest key has no value any more. */
export type Emission = {
  channel: string;
  data?: unknown;
  key?: string;
  latestKey?: string;
  removed?: boolean;
  sender?: string;
};

/** What became of it. A newer value of its key may have taken its place. */
export type EmitResult = "published" | "duplicate" | "superseded" | "dropped";

type Wire = MessageInitShape<typeof EmitSchema>;
type Item = {
  message: Wire;
  slot: string | undefined;
  resolve: (result: EmitResult) => void;
  reject: (error: Error) => void;
};
/** Sends one; says whether there is room for another. */
type Send = (message: Wire) => boolean;

/** Unanswered ones at a time. */
const WINDOW = 512;

export class EmitQueue {
  readonly #metrics: Metrics;
  readonly #limit: number;
  #waiting = new Set<Item>();
  readonly #slots = new Map<string, Item>();
  readonly #sent = new Map<bigint, Item>();
  #send: Send | undefined;
  #room = false;
  #lastId = 0n;
  #idle: (() => void)[] = [];

  constructor({ metrics, limit }: { metrics: Metrics; limit: number }) {
    this.#metrics = metrics;
    this.#limit = limit;
  }

  get size(): number {
    return this.#waiting.size + this.#sent.size;
  }

  /** Publishes to a live channel: whoever is there. Without a link, or room on it, it is dropped. */
  live({ channel, data, sender = "" }: Emission): EmitResult {
    if (!this.#send || !this.#room) return this.#count("dropped");
    const payload = toPayload(data);
    this.#room = this.#send({ id: 0n, channel, sender, ...(payload && { data: payload }) });
    return this.#count("published");
  }

  /** Resolves when the gateway has it. Rejects where the gateway refuses it, or the queue is full. */
  kept(emission: Emission): Promise<EmitResult> {
    const { channel, latestKey = "", removed = false, sender = "" } = emission;
    const key = emission.key ?? (latestKey ? "" : randomUUID());
    const payload = toPayload(emission.data);
    const message = { channel, key, latestKey, removed, sender, ...(payload && { data: payload }) };
    const slot = latestKey && `${channel}\n${latestKey}`;
    return new Promise((resolve, reject) => {
      const older = slot ? this.#slots.get(slot) : undefined;
      if (older) this.#supersede(older);
      if (this.#waiting.size >= this.#limit) {
        this.#count("refused");
        return reject(new Problem("overloaded", "Too much waits to be published."));
      }
      const item = { message, slot: slot || undefined, resolve, reject };
      this.#waiting.add(item);
      if (slot) this.#slots.set(slot, item);
      this.#pump();
    });
  }

  /** A link is there: what was sent over the last one and not answered goes first. */
  attach(send: Send) {
    const again = [...this.#sent.values()].filter((item) => {
      const newer = item.slot !== undefined && this.#slots.has(item.slot);
      if (newer) item.resolve(this.#count("superseded"));
      return !newer;
    });
    this.#sent.clear();
    this.#waiting = new Set([...again, ...this.#waiting]);
    for (const item of again) if (item.slot) this.#slots.set(item.slot, item);
    this.#send = send;
    this.#room = true;
    this.#pump();
  }

  detach() {
    this.#send = undefined;
    this.#room = false;
  }

  /** The link can take more. */
  drain() {
    this.#room = this.#send !== undefined;
    this.#pump();
  }

  answered({ id, duplicate, error }: Emitted) {
    const item = this.#sent.get(id);
    if (!item) return;
    this.#sent.delete(id);
    if (error) {
      this.#count("error");
      // Another time may do where the gateway says when.
      const code = error.retryAfterMs > 0 ? "unavailable" : "invalid_argument";
      item.reject(new Problem(code, `The gateway did not publish: ${error.message}`));
    } else item.resolve(this.#count(duplicate ? "duplicate" : "published"));
    this.#pump();
    if (this.size === 0) for (const done of this.#idle.splice(0)) done();
  }

  /** Resolves when everything was answered. */
  async idle() {
    if (this.size > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  #pump() {
    for (const item of this.#waiting) {
      if (!this.#send || !this.#room || this.#sent.size >= WINDOW) return;
      this.#waiting.delete(item);
      if (item.slot) this.#slots.delete(item.slot);
      this.#lastId += 1n;
      this.#sent.set(this.#lastId, item);
      this.#room = this.#send({ ...item.message, id: this.#lastId });
    }
  }

  #supersede(item: Item) {
    this.#waiting.delete(item);
    item.resolve(this.#count("superseded"));
  }

  #count<R extends EmitResult | "error" | "refused">(outcome: R): R {
    this.#metrics.channelEmits.inc({ outcome });
    return outcome;
  }
}
