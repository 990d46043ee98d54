// A channel as an application uses it: its subscription with typed events, and what can be asked about it.
import type { Clock } from "./core/clock.ts";
import type { RequestOptions, Requests } from "./core/requests.ts";
import { Subscription, type SubscriptionOptions } from "./core/subscription.ts";
import { Emitter } from "./emitter.ts";
import { ChannelsError } from "./errors.ts";
import type { Ask, ChannelKind, Data, Position, PresenceChange, Publication, ServerMessage } from "./messages.ts";
import type { MemberData, NamespaceTypes, Sent } from "./schema.ts";

/** Something published. `data` is undefined where a key of a `latest` channel was removed. */
export type Received<T> = Omit<Publication, "data" | "previous"> & { data: T };
export type Person<M> = { session: string; subject: string; data: M };

export type ChannelEvents<T extends NamespaceTypes> = {
  publication: Received<T["publication"]>;
  presence: { joined: Person<MemberData<T>>[]; left: string[] };
  /** Something may have been missed: load the state from the application again. What follows this place is complete. */
  reset: { position: Position | undefined };
  subscribed: { kind: ChannelKind; position: Position | undefined; recovered: boolean; data: Data };
  /** The gateway or the application ended it; it is joined again by itself where `retryAfterMs` is not 0. */
  unsubscribed: ChannelsError;
};

export type AskOptions = {
  signal?: AbortSignal | undefined;
  /** How long to wait for the reply, through reconnections. Infinity: for ever. */
  timeoutMs?: number | undefined;
};

export type PublishOptions = AskOptions & {
  /** Up to 64 bytes. The same key is published once, however often it is sent; without one, one is made. */
  key?: string;
  /** latest: the key whose value this is. */
  latestKey?: string;
};

export type Receipt = { key: string; position: Position | undefined; duplicate: boolean; data: Data };

type Dependencies = { clock: Clock; requests: Requests; timeoutMs: number; open: () => void };

export class Channel<T extends NamespaceTypes = NamespaceTypes> {
  readonly name: string;
  readonly #events = new Emitter<ChannelEvents<T>>();
  readonly #deps: Dependencies;
  /** For the client that made this; not for applications. */
  readonly subscription: Subscription;

  constructor(name: string, deps: Dependencies) {
    this.name = name;
    this.#deps = deps;
    const emit = this.#events.emit.bind(this.#events);
    this.subscription = new Subscription(name, deps.clock, deps.requests, {
      joined: ({ kind, position, recovered, data }) => emit("subscribed", { kind, position, recovered, data }),
      reset: (position) => emit("reset", { position }),
      publication: ({ previous: _, ...publication }) => emit("publication", publication as Received<T["publication"]>),
      left: (error) => emit("unsubscribed", error),
    });
  }

  /** Whether publications arrive now. */
  get isSubscribed(): boolean {
    return this.subscription.phase === "active";
  }

  /** The last publication that was delivered; a later subscription can go on from here. */
  get position(): Position | undefined {
    const { position } = this.subscription;
    return position && { ...position };
  }

  on<K extends keyof ChannelEvents<T>>(type: K, listener: (event: ChannelEvents<T>[K]) => void): () => void {
    return this.#events.on(type, listener);
  }

  /** Receives what is published, from now on or from a place, until `unsubscribe`. The channel, for chaining. */
  subscribe(options: SubscriptionOptions = {}): this {
    this.subscription.start(options);
    this.#deps.open();
    return this;
  }

  unsubscribe() {
    this.subscription.stop();
  }

  /** Waits until publications arrive. Rejects if the subscription is refused for good. */
  async subscribed({ signal, timeoutMs = this.#deps.timeoutMs }: AskOptions = {}): Promise<void> {
    if (this.isSubscribed) return;
    signal?.throwIfAborted();
    const ends: (() => void)[] = [];
    try {
      await new Promise<void>((resolve, reject) => {
        const late = new ChannelsError("TIMEOUT", `no subscription to ${this.name} within ${timeoutMs} ms`);
        const abort = () => reject(signal?.reason);
        signal?.addEventListener("abort", abort);
        ends.push(
          () => signal?.removeEventListener("abort", abort),
          this.on("subscribed", () => resolve()),
          this.on("unsubscribed", (error) => error.retryAfterMs === 0 && reject(error)),
        );
        if (timeoutMs < Number.POSITIVE_INFINITY) ends.push(this.#deps.clock.after(timeoutMs, () => reject(late)));
      });
    } finally {
      for (const end of ends) end();
    }
  }

  /**
   * Publishes. Resolves when it is accepted: what the application has to keep is kept. Sent again over reconnections
   * until the reply comes, the time is over or the signal aborts; the key makes it count once.
   */
  async publish(data: Sent<T>, options: PublishOptions = {}): Promise<Receipt> {
    const { key = crypto.randomUUID(), latestKey = "", ...rest } = options;
    const value = { channel: this.name, data, key, latestKey };
    const reply = await this.#ask("published", { case: "publish", value }, rest);
    return { key, ...reply };
  }

  /** What was published and is kept, oldest first; pages are fetched as they are read. */
  async *history(
    options: AskOptions & { from?: Position; pageSize?: number } = {},
  ): AsyncGenerator<Received<T["publication"]>, void, undefined> {
    const { from: start, pageSize: limit = 0, ...rest } = options;
    let from = start;
    for (;;) {
      const ask: Ask = { case: "history", value: { channel: this.name, from, limit } };
      const page = await this.#ask("history", ask, rest);
      if (!page.found) throw new ChannelsError("NOT_FOUND", `what follows ${show(from)} in ${this.name} is not kept`);
      yield* page.publications.map(({ previous: _, ...one }) => one as Received<T["publication"]>);
      const last = page.publications.at(-1);
      if (!page.more || !last || !page.top) return;
      from = { epoch: page.top.epoch, offset: last.offset };
    }
  }

  /** Who is there; `total` counts those beyond the gateway's limit, too. */
  async presence(options: AskOptions = {}): Promise<{ members: Person<MemberData<T>>[]; total: number }> {
    const reply = await this.#ask("presence", { case: "presence", value: { channel: this.name } }, options);
    return reply as { members: Person<MemberData<T>>[]; total: number };
  }

  /** For the client that made this: who came and went. */
  presenceChanged({ joined, left }: PresenceChange) {
    this.#events.emit("presence", { joined: joined as Person<MemberData<T>>[], left });
  }

  async #ask<C extends ServerMessage["case"]>(expected: C, ask: Ask, options: AskOptions) {
    this.#deps.open();
    const request: RequestOptions = { safe: true, channel: this.name, timeoutMs: this.#deps.timeoutMs };
    if (options.timeoutMs !== undefined) request.timeoutMs = options.timeoutMs;
    const reply = await this.#deps.requests.ask(ask, { ...request, signal: options.signal });
    return answer(reply, expected);
  }
}

/** The reply's content, or an error where it is no reply to what was asked. */
export function answer<C extends ServerMessage["case"]>(reply: ServerMessage, expected: C) {
  if (reply.case === expected) return reply.value as Extract<ServerMessage, { case: C }>["value"];
  throw new ChannelsError("INTERNAL", `the gateway replied with ${reply.case} instead of ${expected}`);
}

function show(from: Position | undefined): string {
  return from ? `${from.epoch}:${from.offset}` : "the beginning";
}
