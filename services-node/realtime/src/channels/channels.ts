// What features use of channels: they say what they serve, publish, and end subscriptions. The link does the rest.
import { hostname } from "node:os";
import type { Database } from "../db/database.ts";
import type { ServiceToken } from "../identity.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import type { Emission, EmitResult } from "./emits.ts";
import { KeptEmits } from "./kept.ts";
import { Link, type LinkConfig } from "./link.ts";
import { type Feature, Registry } from "./registry.ts";

type Dependencies = {
  gateway: URL;
  token: ServiceToken;
  database: Database;
  log: Log;
  metrics: Metrics;
  config: LinkConfig;
};

export class Channels {
  readonly registry = new Registry();
  readonly #link: Link;
  readonly #kept: KeptEmits;
  readonly #log: Log;

  constructor(deps: Dependencies) {
    this.#log = deps.log;
    const instance = `${hostname()}-${process.pid}`;
    this.#link = new Link({ ...deps, registry: this.registry, instance });
    this.#kept = new KeptEmits({ ...deps, emit: (emission) => this.#link.emits.kept(emission) });
    const { probe } = deps.metrics;
    probe("realtime_channels_link_up", "Whether the link to the gateway stands.", () => (this.#link.up ? 1 : 0));
    probe("realtime_channels_asks_running", "Hooks that run.", () => this.#link.asks.running);
    probe(
      "realtime_channels_emits_waiting",
      "Publications that the gateway has not answered.",
      () => this.#link.emits.size,
    );
    probe(
      "realtime_channels_emits_kept",
      "Publications on disk that the gateway has not answered.",
      () => this.#kept.size,
    );
  }

  /** Adds features. Before the start. */
  serve(...features: Feature[]) {
    for (const feature of features) this.registry.add(feature);
  }

  start() {
    this.#link.start();
    this.#kept.wake();
  }

  async stop(withinMs: number) {
    await this.#link.stop(withinMs);
    this.#kept.stop();
  }

  /** Publishes as soon as there is a link. Lost with this process: what must not be is kept. */
  emit(emission: Emission): Promise<EmitResult> {
    const { namespace } = this.registry.find(emission.channel);
    if (!namespace) return Promise.reject(new Error(`no feature serves ${emission.channel}`));
    if (namespace.kind === "live") return Promise.resolve(this.#link.emits.live(emission));
    return this.#link.emits.kept(emission);
  }

  /** The same for who does not wait for what becomes of it. */
  tell(emission: Emission) {
    this.emit(emission).catch((error) => this.#log.warn({ err: error, channel: emission.channel }, "not published"));
  }

  /** Publishes what the current transaction makes true, even if this process dies right after it. */
  keep(emission: { channel: string; key: string; data: unknown }) {
    this.#kept.add(emission);
  }

  /** Ends sessions or subscriptions: those that fit everything that is said. */
  revoke(what: { subject?: string; session?: string; channel?: string; message?: string }) {
    this.#link.revoke(what);
  }

  /** Hears of every attachment: the gateway may be another process, that has no values. */
  onAttached(listener: () => void) {
    this.#link.onAttached(listener);
  }

  /** Hears of every attachment's end: a gateway that stops waits for the calls that still run through it. */
  onDetached(listener: () => void) {
    this.#link.onDetached(listener);
  }
}
