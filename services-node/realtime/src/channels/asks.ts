// Carries out what the gateway asks: so many hooks at a time, a bounded number that wait, each with its deadline as a
// signal. Beyond that an ask is refused at once, with a time to come back.
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { AnswerSchema, Ask, Actor as WireActor } from "@hybrid/contracts/channels";
import { backgroundContext, traceIdOf } from "../context.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import { Problem } from "../problems.ts";
import type { Actor, HookContext, Registry } from "./registry.ts";
import { fromPayload, toError, toPayload } from "./wire.ts";

type Answer = MessageInitShape<typeof AnswerSchema>;
type Decided = Exclude<NonNullable<Answer["kind"]>, { case: undefined }>;
type Reply = (answer: Answer) => void;
type Running = {
  ask: Ask;
  reply: Reply;
  control: AbortController;
  timer: NodeJS.Timeout;
  came: number;
  forget: () => void;
};

type Dependencies = {
  registry: Registry;
  log: Log;
  metrics: Metrics;
  config: { concurrency: number; waiting: number };
};

/** Of all links together. A hook that is not waited for any more counts until it has ended. */
export class AskRunner {
  readonly #deps: Dependencies;
  readonly #waiting: Running[] = [];
  #running = 0;
  #idle: (() => void)[] = [];

  constructor(deps: Dependencies) {
    this.#deps = deps;
  }

  get running(): number {
    return this.#running;
  }

  /** The asks of one link. `reply` sends an answer over it. */
  open(reply: Reply) {
    const asks = new Map<bigint, Running>();
    return {
      receive: (ask: Ask) => this.#receive(ask, reply, asks),
      withdraw: (id: bigint) => asks.get(id)?.control.abort(),
      /** The link is gone: nobody hears the answers. */
      abort: () => {
        for (const { control } of asks.values()) control.abort();
      },
    };
  }

  /** Resolves when nothing runs and nothing waits. */
  async idle() {
    if (this.#running + this.#waiting.length === 0) return;
    await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  #receive(ask: Ask, reply: Reply, asks: Map<bigint, Running>) {
    const { concurrency, waiting } = this.#deps.config;
    if (this.#running >= concurrency && this.#waiting.length >= waiting) {
      this.#count(ask, "refused", 0);
      const refusal = new Problem("overloaded", "The application is at its limit.");
      return reply({ id: ask.id, kind: { case: "error", value: toError(refusal) } });
    }
    const control = new AbortController();
    const timer = setTimeout(() => control.abort(), ask.timeoutMs || 1).unref();
    const forget = () => void asks.delete(ask.id);
    const one = { ask, reply, control, timer, came: performance.now(), forget };
    asks.set(ask.id, one);
    control.signal.addEventListener("abort", forget, { once: true });
    if (this.#running >= concurrency) return void this.#waiting.push(one);
    void this.#run(one);
  }

  async #run({ ask, reply, control, timer, came, forget }: Running) {
    this.#running += 1;
    const gone = () => control.signal.aborted;
    const kind = gone() ? undefined : await this.#answer(ask, control.signal);
    clearTimeout(timer);
    forget();
    // An answer that came too late is of no use; what was begun for it has been finished.
    if (kind && !gone()) reply({ id: ask.id, kind });
    this.#count(ask, !kind || gone() ? "late" : kind.case === "error" ? "error" : "ok", performance.now() - came);
    this.#running -= 1;
    const next = this.#waiting.shift();
    if (next) void this.#run(next);
    else if (this.#running === 0) for (const done of this.#idle.splice(0)) done();
  }

  async #answer(ask: Ask, signal: AbortSignal): Promise<Decided> {
    const { log, registry } = this.#deps;
    const context = contextOf(ask, signal);
    try {
      return await decide(registry, ask, context);
    } catch (error) {
      if (!(error instanceof Problem) && !signal.aborted) {
        log.error({ err: error, ask: nameOf(ask, registry), trace_id: traceIdOf(context) }, "a hook failed");
      }
      return { case: "error", value: toError(error) };
    }
  }

  #count(ask: Ask, outcome: string, milliseconds: number) {
    const labels = { kind: ask.kind.case ?? "unknown", name: nameOf(ask, this.#deps.registry), outcome };
    this.#deps.metrics.channelAsks.observe(labels, milliseconds / 1000);
  }
}

/** The context of something that an actor does: it continues the trace, and has the deadline. */
export function contextOf(ask: Pick<Ask, "actor" | "traceparent" | "timeoutMs" | "again">, signal: AbortSignal) {
  return {
    ...backgroundContext({ traceparent: ask.traceparent }),
    deadline: new Date(Date.now() + ask.timeoutMs),
    actor: actorOf(ask.actor),
    signal,
    again: ask.again,
  } satisfies HookContext;
}

export function actorOf(actor: WireActor | undefined): Actor {
  const kind = actor?.kind === "user" || actor?.kind === "service" ? actor.kind : "anonymous";
  return { session: actor?.session ?? "", subject: actor?.subject ?? "anonymous", kind, scope: actor?.scope ?? "" };
}

async function decide(registry: Registry, { kind }: Ask, context: HookContext): Promise<Decided> {
  if (kind.case === "call") {
    const one = registry.method(kind.value.method);
    if (!one) throw new Problem("not_found", `There is no method ${kind.value.method}.`);
    const args = fromPayload(kind.value.data) ?? {};
    one.check(args);
    const data = toPayload((await one.answer(context, args)) ?? null);
    return { case: "call", value: { ...(data && { data }) } };
  }
  if (kind.case === "subscribe") return subscribe(registry, kind.value.channel, fromPayload(kind.value.data), context);
  if (kind.case === "publish") return publish(registry, kind.value, context);
  // Nobody asked to be asked: everybody may connect.
  if (kind.case === "connect") return { case: "connect", value: {} };
  throw new Problem("invalid_argument", "This application does not know what is asked.");
}

async function subscribe(registry: Registry, name: string, data: unknown, context: HookContext): Promise<Decided> {
  const { namespace, channel } = registry.find(name);
  if (typeof namespace?.subscribe !== "function") throw noHook(name, "subscribe to", namespace?.subscribe);
  const subscribed = (await namespace.subscribe(context, channel, data)) ?? {};
  const [told, member] = [toPayload(subscribed.data), toPayload(subscribed.member)];
  const value = { readOnly: subscribed.readOnly ?? false, ...(told && { data: told }), ...(member && { member }) };
  return { case: "subscribe", value };
}

type AskPublish = Extract<Ask["kind"], { case: "publish" }>["value"];

async function publish(registry: Registry, asked: AskPublish, context: HookContext): Promise<Decided> {
  const { namespace, channel } = registry.find(asked.channel);
  if (typeof namespace?.publish !== "function") throw noHook(asked.channel, "publish to", namespace?.publish);
  const data = fromPayload(asked.data);
  if (namespace.check && data instanceof Uint8Array) {
    throw new Problem("invalid_argument", "The publication is not valid: JSON is expected, not bytes.");
  }
  namespace.check?.(data);
  const { key, latestKey } = asked;
  const decided = (await namespace.publish(context, channel, data, { key, latestKey })) ?? {};
  const [instead, told] = [toPayload(decided.publish), toPayload(decided.data)];
  const value = {
    silent: decided.silent ?? false,
    duplicate: decided.duplicate ?? false,
    latestKey: decided.latestKey ?? "",
    ...(instead && { publish: instead }),
    ...(told && { data: told }),
  };
  return { case: "publish", value };
}

function noHook(channel: string, what: string, policy: string | undefined): Problem {
  if (policy === undefined) return new Problem("not_found", `There is no channel ${channel}.`);
  return new Problem("permission_denied", `Nobody may ${what} ${channel}.`);
}

/** Bounded: what a client made up is not a name. */
function nameOf({ kind }: Ask, registry: Registry): string {
  if (kind.case === "call") return registry.method(kind.value.method) ? kind.value.method : "unknown";
  if (kind.case === "subscribe" || kind.case === "publish") {
    return registry.find(kind.value.channel).namespace?.name ?? "unknown";
  }
  return kind.case ?? "unknown";
}
