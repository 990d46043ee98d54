// What the gateway tells: one after the other, and acknowledged after it is dealt with, so that what this process did
// not get to comes again to the next one. A hook must therefore bear to be called twice.
import type { Event } from "@hybrid/contracts/channels";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import { contextOf } from "./asks.ts";
import type { Registry } from "./registry.ts";

/** The gateway keeps fewer; one that sends more than it keeps is cut off, and what it keeps comes again. */
const MOST_WAITING = 20_000;
const HOOK_MS = 5_000;

type Dependencies = { registry: Registry; log: Log; metrics: Metrics };

export class EventReader {
  readonly #deps: Dependencies;
  readonly #acknowledge: (sequence: bigint) => void;
  readonly #waiting: Event[] = [];
  #running = false;
  #stopped = false;

  /** One for each link. */
  constructor(deps: Dependencies, acknowledge: (sequence: bigint) => void) {
    this.#deps = deps;
    this.#acknowledge = acknowledge;
  }

  /** Whether there was room. */
  receive(event: Event): boolean {
    if (this.#waiting.length >= MOST_WAITING) return false;
    this.#waiting.push(event);
    if (!this.#running) void this.#run();
    return true;
  }

  stop() {
    this.#stopped = true;
  }

  async #run() {
    this.#running = true;
    while (this.#waiting.length > 0 && !this.#stopped) {
      const batch = this.#waiting.splice(0, 256);
      for (const event of batch) await this.#deal(event);
      if (!this.#stopped) this.#acknowledge(batch.at(-1)!.sequence);
    }
    this.#running = false;
  }

  async #deal({ kind }: Event) {
    const { registry, log, metrics } = this.#deps;
    metrics.channelEvents.inc({ kind: kind.case ?? "unknown" });
    if (kind.case === "lost") return log.warn({ lost: String(kind.value) }, "the gateway dropped events");
    if (kind.case !== "left") return;
    const { namespace, channel } = registry.find(kind.value.channel);
    const signal = AbortSignal.timeout(HOOK_MS);
    const context = contextOf({ actor: kind.value.actor, traceparent: "", timeoutMs: HOOK_MS, again: false }, signal);
    try {
      await namespace?.left?.(context, channel);
    } catch (error) {
      log.error({ err: error, namespace: namespace?.name }, "a hook failed");
    }
  }
}
