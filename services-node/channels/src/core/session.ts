// The connection's life as a state machine: connecting → open → waiting → connecting …, until it is closed. It resumes by
// ticket, waits as it is told or with jitter, notices silence, and keeps the token fresh. Everything outside of it, the
// transport, time and chance, is given to it.
import { ChannelsError } from "../errors.ts";
import {
  CLOSE_CODES,
  type Connected,
  type Data,
  type Failure,
  type Position,
  type Resume,
  type ServerMessage,
  type Subscribed,
  type Ticket,
} from "../messages.ts";
import { backoff, type Clock } from "./clock.ts";
import type { Closed, Dial, Link } from "./link.ts";
import type { Requests } from "./requests.ts";
import { TokenSource } from "./token.ts";

/** closed: not wanted, or over for good · waiting: until the next try. */
export type State = "closed" | "connecting" | "open" | "waiting";

/** What the session tells, and asks. */
export interface SessionHandler {
  state(state: State, detail: { error?: ChannelsError; retryInMs?: number }): void;
  /** Subscriptions to go on with. */
  resumes(): Resume[];
  opened(connected: Connected, resumed: Map<string, Subscribed>): void;
  lost(): void;
  message(message: ServerMessage): void;
  top(channel: string, top: Position): void;
  /** Something went wrong that is tried again. */
  problem(error: ChannelsError): void;
}

export type SessionOptions = {
  dial: Dial;
  clock: Clock;
  /** Milliseconds since 1970, for the token's end. */
  wallClock: () => number;
  token: (() => Promise<string> | string) | undefined;
  requests: Requests;
  handler: SessionHandler;
  connectData?: Data;
  client: string;
  backoff: { baseMs: number; maxMs: number };
  connectTimeoutMs: number;
};

type Timer = "retry" | "handshake" | "silence" | "stable" | "probe";

const CONNECT_ID = 1;
/** Where the gateway does not say its heartbeat. */
const HEARTBEAT_MS = 25_000;
/** A connection that lasted so long was a good one: the next failure is the first again. */
const STABLE_MS = 5_000;
/** How long a connection that may be dead gets to answer. */
const PROBE_MS = 5_000;

export class Session {
  readonly #options: SessionOptions;
  #state: State = "closed";
  /** Counts connections: what comes from an earlier one is not for us any more. */
  #generation = 0;
  #link: Link | undefined;
  #ticket: { ticket: string; until: number } | undefined;
  #resumes: Resume[] = [];
  #attempt = 0;
  #heardAt = 0;
  #silenceMs = 2 * HEARTBEAT_MS;
  readonly #tokens: TokenSource;
  readonly #timers = new Map<Timer, () => void>();

  constructor(options: SessionOptions) {
    this.#options = options;
    const due = () => void this.#refresh();
    this.#tokens = new TokenSource({ ...options, due, failed: options.handler.problem });
  }

  get state(): State {
    return this.#state;
  }

  open() {
    if (this.#state !== "closed") return;
    this.#attempt = 0;
    void this.#connect();
  }

  /** Ends it. Requests that wait fail. */
  close(error = new ChannelsError("CLOSED", "the client was closed")) {
    if (this.#state === "closed") return;
    this.#drop();
    this.#ticket = undefined;
    this.#tokens.stop();
    this.#enter("closed", { error });
    this.#options.requests.fail(error);
  }

  /** The network or the page is back: no reason to wait on, and a connection that seems open may be dead. */
  wake() {
    if (this.#state === "waiting") void this.#connect();
    else if (this.#state === "open") this.#probe();
  }

  async #connect() {
    const generation = ++this.#generation;
    const { clock, handler, connectTimeoutMs } = this.#options;
    this.#timer("retry");
    this.#enter("connecting");
    const late = () => this.#lost({ code: 1006, message: "no connection within the time", retryAfterMs: 0 });
    this.#timer("handshake", connectTimeoutMs, late);
    if (this.#ticket && this.#ticket.until <= clock.now()) this.#ticket = undefined;
    const token = this.#ticket ? "" : await this.#tokens.fetch();
    if (generation !== this.#generation) return;
    if (token === undefined) return this.#lost({ code: 1006, message: "no access token", retryAfterMs: 0 });
    this.#resumes = this.#ticket ? handler.resumes() : [];
    const isMine = () => generation === this.#generation;
    this.#link = this.#options.dial({
      opened: () => void (isMine() && this.#greet(token)),
      received: (messages) => {
        this.#heardAt = clock.now();
        for (const message of messages) if (isMine()) this.#receive(message);
      },
      closed: (closed) => void (isMine() && this.#lost(closed)),
    });
  }

  #greet(token: string) {
    const { client, connectData: data } = this.#options;
    const value = { token, ticket: this.#ticket?.ticket ?? "", resume: this.#resumes, client, data };
    try {
      this.#link?.send({ id: CONNECT_ID, case: "connect", value });
    } catch (error) {
      // What cannot be sent now will not be sent later either.
      this.close(error as ChannelsError);
    }
  }

  #receive(message: ServerMessage) {
    if (message.case === "closing") {
      const { code, message: words, retryAfterMs } = message.value;
      return this.#lost({ code, message: words, retryAfterMs });
    }
    if (this.#state !== "open") return this.#greeted(message);
    if (message.case === "ticket") this.#keep(message.value);
    if (message.case === "heartbeat") this.#beat(message.value.tops);
    else if (message.id === 0 || !this.#options.requests.reply(message)) this.#options.handler.message(message);
  }

  #greeted(message: ServerMessage) {
    if (message.id !== CONNECT_ID) return;
    if (message.case === "error") this.#refused(message.value);
    else if (message.case === "connected") this.#opened(message.value);
  }

  #opened(connected: Connected) {
    const { requests, handler } = this.#options;
    this.#timer("handshake");
    this.#timer("stable", STABLE_MS, () => {
      this.#attempt = 0;
    });
    this.#silenceMs = 2 * (connected.heartbeatMs || HEARTBEAT_MS);
    this.#listen();
    if (connected.ticket) this.#keep(connected.ticket);
    if (connected.limits.frameBytes) this.#link?.limit(connected.limits.frameBytes);
    // By order, as the contract has it; not by name.
    const pairs = this.#resumes.map((one, index) => [one.channel, connected.subscriptions[index]] as const);
    const resumed = new Map(pairs.flatMap(([channel, found]) => (found ? [[channel, found] as const] : [])));
    this.#enter("open");
    requests.attach(this.#link!, connected.limits);
    handler.opened(connected, resumed);
    if (this.#tokens.isDue) void this.#refresh();
  }

  /** Connect failed. A ticket that is no good is dropped; what is final closes. */
  #refused(failure: Failure) {
    const error = ChannelsError.of(failure);
    const hadTicket = this.#ticket !== undefined;
    this.#ticket = undefined;
    if (hadTicket || failure.code === "EXPIRED" || failure.retryAfterMs > 0) {
      this.#options.handler.problem(error);
      // A ticket that is no good says nothing of the gateway: the next try need not wait.
      if (hadTicket && failure.retryAfterMs === 0) return this.#again();
      return this.#lost({ code: 1006, message: error.message, retryAfterMs: failure.retryAfterMs });
    }
    this.close(error);
  }

  #lost({ code, message, retryAfterMs }: Closed) {
    if (code === CLOSE_CODES.EXPIRED) this.#ticket = undefined;
    if (code >= 4500 && code < 5000) {
      const name = Object.entries(CLOSE_CODES).find(([, value]) => value === code)?.[0] ?? code;
      const words = `the gateway closed the connection for good: ${name}${message ? `, ${message}` : ""}`;
      return this.close(new ChannelsError("CLOSED", words, { closeCode: code }));
    }
    this.#drop();
    const wait = Math.max(retryAfterMs, this.#backoff());
    this.#timer("retry", wait, () => void this.#connect());
    this.#enter("waiting", { retryInMs: wait });
  }

  #again() {
    this.#drop();
    void this.#connect();
  }

  /** Lets go of the connection. */
  #drop() {
    this.#generation += 1;
    for (const name of ["retry", "handshake", "silence", "stable", "probe"] as const) this.#timer(name);
    this.#link?.close();
    this.#link = undefined;
    this.#options.requests.detach();
    this.#options.handler.lost();
  }

  #beat(tops: { channel: string; top: Position | undefined }[]) {
    this.#link?.send({ id: 0, case: "ping", value: {} });
    for (const { channel, top } of tops) if (top) this.#options.handler.top(channel, top);
  }

  /** Watches for silence with one timer, which is set anew only when it fires. */
  #listen() {
    const left = this.#heardAt + this.#silenceMs - this.#options.clock.now();
    if (left > 0) return this.#timer("silence", left, () => this.#listen());
    this.#lost({ code: 1006, message: "the gateway has been silent", retryAfterMs: 0 });
  }

  #probe() {
    const { clock } = this.#options;
    const asked = clock.now();
    this.#options.requests.ask({ case: "ping", value: {} }, { urgent: true }).catch(() => {});
    this.#timer("probe", PROBE_MS, () => {
      if (this.#heardAt < asked) this.#lost({ code: 1006, message: "the gateway is silent", retryAfterMs: 0 });
    });
  }

  #keep({ ticket, expiresInMs }: Ticket) {
    if (ticket) this.#ticket = { ticket, until: this.#options.clock.now() + expiresInMs };
  }

  /** Brings a new token to the open session; one that cannot be had is asked for again. */
  async #refresh() {
    if (this.#state !== "open") return;
    const generation = this.#generation;
    const token = await this.#tokens.fetch();
    if (token === undefined && this.state !== "closed") this.#tokens.later(this.#backoff());
    if (!token || generation !== this.#generation) return;
    this.#options.requests.ask({ case: "refresh", value: { token } }, { urgent: true }).then(
      (reply) => {
        if (reply.case === "ticket") this.#keep(reply.value);
      },
      (error: ChannelsError) => this.#options.handler.problem(error),
    );
  }

  #backoff(): number {
    return backoff(this.#options.clock, this.#attempt++, this.#options.backoff);
  }

  /** Sets a timer anew, or calls it off. */
  #timer(name: Timer, ms?: number, run?: () => void) {
    this.#timers.get(name)?.();
    this.#timers.delete(name);
    if (ms !== undefined && run) this.#timers.set(name, this.#options.clock.after(ms, run));
  }

  #enter(state: State, detail: { error?: ChannelsError; retryInMs?: number } = {}) {
    this.#state = state;
    this.#options.handler.state(state, detail);
  }
}
