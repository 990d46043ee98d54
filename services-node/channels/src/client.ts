// The client: one connection, its channels and calls. Composes the core with a transport, an encoding and real time.
import { type AskOptions, answer, Channel } from "./channel.ts";
import type { Codec } from "./codec/codec.ts";
import { jsonCodec } from "./codec/json.ts";
import { type Clock, systemClock } from "./core/clock.ts";
import type { Dial } from "./core/link.ts";
import { Requests } from "./core/requests.ts";
import { Session, type SessionHandler, type State } from "./core/session.ts";
import { Emitter } from "./emitter.ts";
import { ChannelsError } from "./errors.ts";
import { watchBrowser } from "./hints.ts";
import type { Connected, Data, Resume, ServerMessage, Subscribed } from "./messages.ts";
import type {
  MethodOf,
  NamespaceOf,
  NamespaceTypes,
  RequestOf,
  ResponseOf,
  Schema,
  TypesOf,
  Untyped,
} from "./schema.ts";
import { eventsDial } from "./transports/events.ts";
import { type WebSocketClass, webSocketDial } from "./transports/websocket.ts";

export type ClientOptions = {
  /** Where the gateway serves channels, for example https://example.com/channels/v1; a page may leave out its own host. */
  url: string | URL;
  /** Gives an access token, whenever one is needed. Absent: nobody in particular connects. */
  token?: () => Promise<string> | string;
  /** JSON, unless `protobuf` of "@hybrid/channels/protobuf" is given. */
  encoding?: Codec;
  /** "sse": server-sent events and plain HTTP, where WebSockets do not pass. No calls and no presence then. */
  transport?: "websocket" | "sse";
  /** For the application's connect hook. */
  data?: Data;
  /** How long a request waits for its reply, through reconnections. 30,000 unless said. */
  timeoutMs?: number;
  /** Requests that may wait; more are refused with QUEUE_FULL. 1,000 unless said. */
  maxQueue?: number;
  /** Between two tries, with full jitter. 250 and 30,000 unless said. */
  backoff?: { baseMs: number; maxMs: number };
  /** Until a connection is made and greeted. 10,000 unless said. */
  connectTimeoutMs?: number;
  /** For tests, and for programs with a WebSocket of their own. */
  WebSocket?: WebSocketClass;
  clock?: Clock;
  dial?: Dial;
};

export type ClientEvents = {
  /** `error` says why it is closed for good; `retryInMs` how long it waits. */
  state: { state: State; error?: ChannelsError; retryInMs?: number };
  /** A connection is open. `resumed` false: a new session. */
  open: { session: string; resumed: boolean; data: Data };
  /** Something failed that is tried again, for logs. */
  problem: ChannelsError;
};

export type CallOptions = AskOptions & {
  /** It may be asked twice: then it is sent again over reconnections. */
  idempotent?: boolean;
};

const SOFTWARE = "hybrid-channels-js/0.0.0";

export class ChannelsClient<S extends Schema = object> {
  readonly #events = new Emitter<ClientEvents>();
  readonly #channels = new Map<string, Channel>();
  readonly #requests: Requests;
  readonly #session: Session;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  #stopWatching: (() => void) | undefined;

  constructor(options: ClientOptions) {
    this.#clock = options.clock ?? systemClock;
    this.#timeoutMs = options.timeoutMs ?? 30_000;
    const settled = (name: string) => this.#channels.get(name)?.subscription.isSettled ?? true;
    this.#requests = new Requests(this.#clock, options.maxQueue ?? 1_000, settled);
    this.#session = new Session({
      clock: this.#clock,
      wallClock: Date.now,
      requests: this.#requests,
      handler: this.#handler(),
      dial: options.dial ?? dialOf(options, this.#clock),
      token: options.token,
      connectData: options.data,
      client: SOFTWARE,
      backoff: options.backoff ?? { baseMs: 250, maxMs: 30_000 },
      connectTimeoutMs: options.connectTimeoutMs ?? 10_000,
    });
  }

  get state(): State {
    return this.#session.state;
  }

  on<K extends keyof ClientEvents>(type: K, listener: (event: ClientEvents[K]) => void): () => void {
    return this.#events.on(type, listener);
  }

  /** Connects. Needs not be called: the first subscription, publication or call does. After `close`, begins anew. */
  connect() {
    if (this.state !== "closed") return;
    this.#stopWatching ??= watchBrowser(() => this.#session.wake());
    this.#session.open();
  }

  /** Ends the connection and all that waits, with CLOSED. */
  close() {
    this.#session.close();
  }

  /** The channel of this name, always the same object. Says nothing to the gateway by itself. */
  channel<N extends NamespaceOf<S>>(name: `${N}:${string}`): Channel<TypesOf<S, N>>;
  channel<T = unknown>(name: string): Channel<Untyped<T>>;
  channel(name: string): unknown {
    const known = this.#channels.get(name);
    if (known) return known;
    const { clock, requests, timeoutMs } = { clock: this.#clock, requests: this.#requests, timeoutMs: this.#timeoutMs };
    const channel = new Channel<NamespaceTypes>(name, { clock, requests, timeoutMs, open: () => this.connect() });
    if (this.state === "open") channel.subscription.online(undefined);
    this.#channels.set(name, channel);
    return channel;
  }

  /** Asks the application. */
  async call<M extends MethodOf<S>>(method: M, data: RequestOf<S, M>, options?: CallOptions): Promise<ResponseOf<S, M>>;
  async call<T = unknown>(method: string, data?: Data, options?: CallOptions): Promise<T>;
  async call(method: string, data?: Data, options: CallOptions = {}): Promise<unknown> {
    this.connect();
    const { idempotent = false, timeoutMs = this.#timeoutMs, signal } = options;
    const ask = { case: "call" as const, value: { method, data, idempotent } };
    const reply = await this.#requests.ask(ask, { safe: idempotent, timeoutMs, signal });
    return answer(reply, "result").data;
  }

  #handler(): SessionHandler {
    const subscriptions = () => [...this.#channels.values()].map(({ subscription }) => subscription);
    return {
      state: (state, detail) => {
        if (state === "closed") {
          this.#stopWatching?.();
          this.#stopWatching = undefined;
          for (const one of subscriptions()) one.closed(detail.error);
        }
        this.#events.emit("state", { state, ...detail });
      },
      resumes: () => subscriptions().flatMap((one): Resume | Resume[] => one.resume() ?? []),
      opened: (connected, resumed) => this.#opened(connected, resumed),
      lost: () => subscriptions().forEach((one) => void one.offline()),
      message: (message) => this.#received(message),
      top: (channel, top) => this.#channels.get(channel)?.subscription.top(top),
      problem: (error) => this.#events.emit("problem", error),
    };
  }

  #opened({ session, resumed: isResumed, data }: Connected, resumed: Map<string, Subscribed>) {
    this.#events.emit("open", { session, resumed: isResumed, data });
    for (const { name, subscription } of this.#channels.values()) subscription.online(resumed.get(name));
    this.#requests.pump();
  }

  #received(message: ServerMessage) {
    if (message.id !== 0) return;
    if (message.case === "publications") {
      this.#channels.get(message.value.channel)?.subscription.publications(message.value.publications);
    } else if (message.case === "presenceChange") {
      this.#channels.get(message.value.channel)?.presenceChanged(message.value);
    } else if (message.case === "unsubscribed") {
      this.#channels.get(message.value.channel)?.subscription.ended(message.value.error);
    }
  }
}

function dialOf(options: ClientOptions, clock: Clock): Dial {
  const { location } = globalThis as { location?: Location };
  const url = String(new URL(String(options.url), location?.href)).replace(/\/$/, "");
  if (!/^(https?|wss?):/.test(url)) throw new ChannelsError("INVALID", `url: ${url} is not http, https, ws or wss`);
  if (options.transport === "sse") return eventsDial(url.replace(/^ws/, "http"), clock);
  const Class = options.WebSocket ?? globalThis.WebSocket;
  if (!Class) throw new ChannelsError("UNSUPPORTED", "there is no WebSocket here: give one, or use transport: sse");
  return webSocketDial(url, options.encoding ?? jsonCodec, Class);
}
