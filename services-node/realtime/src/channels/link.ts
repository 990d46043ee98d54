// The link to the gateway: one stream, opened again with growing, jittered pauses whenever it ends. Nothing else of the
// service depends on it: without a link there are no asks, and what is to be published waits.
import { setTimeout as delay } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import {
  type AttachRequestSchema,
  type AttachResponse,
  LinkService,
  type RevokeSchema,
} from "@hybrid/contracts/channels";
import { openStream } from "@hybrid/contracts/grpc";
import { backgroundContext } from "../context.ts";
import type { ServiceToken } from "../identity.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import { AskRunner } from "./asks.ts";
import { EmitQueue } from "./emits.ts";
import { EventReader } from "./events.ts";
import type { Registry } from "./registry.ts";

type Request = MessageInitShape<typeof AttachRequestSchema>;
type Revocation = MessageInitShape<typeof RevokeSchema>;
type Stream = grpc.ClientDuplexStream<Request, AttachResponse>;

export type LinkConfig = { concurrency: number; waiting: number; emits: number; maxBackoffMs: number };

type Dependencies = {
  gateway: URL;
  token: ServiceToken;
  registry: Registry;
  instance: string;
  log: Log;
  metrics: Metrics;
  config: LinkConfig;
};

const CHANNEL_OPTIONS: grpc.ClientOptions = {
  "grpc.initial_reconnect_backoff_ms": 50,
  "grpc.max_reconnect_backoff_ms": 500,
  "grpc.keepalive_time_ms": 10_000,
  "grpc.keepalive_timeout_ms": 5_000,
};
const FIRST_BACKOFF_MS = 50;
const WELCOME_MS = 10_000;
/** A stream that stood so long was a good one: the next pause is the shortest again. */
const GOOD_MS = 5_000;
/** Revocations that are remembered for the next link; beyond that the oldest is forgotten, and said so. */
const MOST_REVOCATIONS = 1_000;
/** What was sent so shortly before a link ended may not have arrived: it is sent again. */
const UNSURE_MS = 10_000;

export class Link {
  readonly asks: AskRunner;
  readonly emits: EmitQueue;
  readonly #deps: Dependencies;
  readonly #connection: grpc.Client;
  readonly #stop = new AbortController();
  #revocations: { revocation: Revocation; at: number }[] = [];
  readonly #attached: (() => void)[] = [];
  readonly #detached: (() => void)[] = [];
  #running: Promise<void> | undefined;
  #stream: Stream | undefined;
  /** Open, but not welcomed yet. */
  #opening: Stream | undefined;
  #endedAt = 0;

  constructor(deps: Dependencies) {
    const { registry, log, metrics, config } = deps;
    this.#deps = deps;
    this.#connection = new grpc.Client(deps.gateway.host, grpc.credentials.createInsecure(), CHANNEL_OPTIONS);
    this.asks = new AskRunner({ registry, log, metrics, config });
    this.emits = new EmitQueue({ metrics, limit: config.emits });
  }

  get up(): boolean {
    return this.#stream !== undefined;
  }

  start() {
    this.#running = this.#run();
  }

  /** Hears of every attachment: perhaps to another process of the gateway, which knows nothing of what was emitted. */
  onAttached(listener: () => void) {
    this.#attached.push(listener);
  }

  /** Hears of every attachment's end: that gateway stops, or is gone. */
  onDetached(listener: () => void) {
    this.#detached.push(listener);
  }

  /** Ends what fits. Revocations have no answer, so the newest ones are sent again over the next link. */
  revoke(revocation: Revocation) {
    if (this.#revocations.length >= MOST_REVOCATIONS) this.#forgetRevocations();
    this.#revocations.push({ revocation, at: performance.now() });
    this.#stream?.write({ kind: { case: "revoke", value: revocation } });
  }

  /** Asks for no more, answers what was asked, sends what waits, within the bound; then the stream ends. */
  async stop(withinMs: number) {
    this.#stop.abort();
    const timer = new AbortController();
    const bound = delay(withinMs, undefined, { signal: timer.signal }).catch(() => {});
    if (this.#stream) {
      this.#stream.write({ kind: { case: "leaving", value: {} } });
      await Promise.race([Promise.all([this.asks.idle(), this.emits.idle()]), bound]);
      this.#stream?.end();
    } else this.#opening?.cancel();
    await Promise.race([this.#running, bound]);
    timer.abort();
    this.#stream?.cancel();
    await this.#running;
    this.#connection.close();
  }

  async #run() {
    const { signal } = this.#stop;
    for (let failures = 0; !signal.aborted; failures += 1) {
      const started = Date.now();
      const status = await this.#attach().catch((error: Error) => ({
        code: grpc.status.UNKNOWN,
        details: error.message,
      }));
      if (signal.aborted) return;
      if (Date.now() - started > GOOD_MS) failures = 0;
      this.#deps.metrics.channelLinkEnds.inc({ status: grpc.status[status.code] ?? "UNKNOWN" });
      const about = { status: grpc.status[status.code], reason: status.details };
      // One line for each outage, not one for each try.
      this.#deps.log[failures === 0 ? "warn" : "debug"](about, "no link to the gateway");
      await delay(this.#backoff(failures), undefined, { signal, ref: false }).catch(() => {});
    }
  }

  /** One attachment; resolves with the status with which it ended. */
  async #attach(): Promise<{ code: grpc.status; details: string }> {
    const metadata = new grpc.Metadata();
    metadata.set("authorization", `Bearer ${await this.#deps.token.get()}`);
    metadata.set("traceparent", backgroundContext().traceparent);
    if (this.#stop.signal.aborted) return { code: grpc.status.CANCELLED, details: "stopped" };
    const stream = openStream(this.#connection, LinkService.method.attach, { metadata }) as Stream;
    this.#opening = stream;
    const welcome = setTimeout(() => stream.cancel(), WELCOME_MS).unref();
    const asks = this.asks.open((value) => stream.write({ kind: { case: "answer", value } }));
    const events = new EventReader(this.#deps, (sequence) =>
      stream.write({ kind: { case: "acknowledge", value: { sequence } } }),
    );
    stream.write({ kind: { case: "hello", value: this.#deps.registry.hello(this.#deps.instance) } });
    stream.on("drain", () => this.#stream === stream && this.emits.drain());
    stream.on("data", ({ kind }: AttachResponse) => {
      if (kind.case === "ask") asks.receive(kind.value);
      else if (kind.case === "withdraw") asks.withdraw(kind.value.id);
      else if (kind.case === "emitted") this.emits.answered(kind.value);
      else if (kind.case === "event" && !events.receive(kind.value)) stream.cancel();
      else if (kind.case === "welcome") {
        clearTimeout(welcome);
        this.#welcomed(stream, kind.value.gateway);
      }
    });
    // The status says it, too.
    stream.on("error", () => {});
    const ended = await new Promise<grpc.StatusObject>((resolve) => stream.on("status", resolve));
    clearTimeout(welcome);
    asks.abort();
    events.stop();
    if (this.#stream === stream) {
      this.#stream = undefined;
      this.#endedAt = performance.now();
      this.emits.detach();
      for (const listener of this.#detached) listener();
    }
    return ended;
  }

  #welcomed(stream: Stream, gateway: string) {
    this.#opening = undefined;
    this.#stream = stream;
    this.#deps.log.info({ gateway }, "linked to the gateway");
    this.#revocations = this.#revocations.filter(({ at }) => at > this.#endedAt - UNSURE_MS);
    for (const { revocation } of this.#revocations) stream.write({ kind: { case: "revoke", value: revocation } });
    this.emits.attach((value) => stream.write({ kind: { case: "emit", value } }));
    for (const listener of this.#attached) listener();
  }

  #forgetRevocations() {
    const unsure = this.#stream ? performance.now() - UNSURE_MS : this.#endedAt - UNSURE_MS;
    this.#revocations = this.#revocations.filter(({ at }) => at > unsure);
    if (this.#revocations.length < MOST_REVOCATIONS) return;
    this.#revocations.shift();
    if (!this.#stream) this.#deps.log.warn("a revocation was dropped: too many wait for the gateway");
  }

  /** Exponential, with full jitter above the first half. */
  #backoff(failures: number): number {
    const ceiling = Math.min(this.#deps.config.maxBackoffMs, FIRST_BACKOFF_MS * 2 ** Math.min(failures, 20));
    return Math.ceil(ceiling * (0.5 + Math.random() / 2));
  }
}
