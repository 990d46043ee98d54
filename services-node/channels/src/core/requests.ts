// Commands that want a reply. They wait in one bounded queue, are sent as fast as the gateway allows, and come back to
// the queue's front when the connection is lost, where sending twice is safe. What cannot be sent twice fails with
// UNAVAILABLE: its outcome is not known.
import { ChannelsError } from "../errors.ts";
import type { Ask, Limits, ServerMessage } from "../messages.ts";
import type { Clock } from "./clock.ts";
import type { Link } from "./link.ts";

export type RequestOptions = {
  /** It may be sent twice: a publish with a key, a query, an idempotent call. */
  safe?: boolean;
  /** Waits until this channel's subscription is settled. */
  channel?: string;
  /** Of the core itself: goes before the others and is never counted as waiting. */
  urgent?: boolean;
  timeoutMs?: number;
  signal?: AbortSignal | undefined;
};

type Request = RequestOptions & {
  ask: Ask;
  notBefore: number;
  resolve(message: ServerMessage): void;
  reject(error: unknown): void;
};

/** Limits before the gateway has said its own, or where it says none. */
const IN_FLIGHT = 32;
const PER_SECOND = 100;
/** What was refused together does not come back together. */
const RETRY_SPREAD = 0.2;

export class Requests {
  readonly #clock: Clock;
  readonly #maxQueue: number;
  readonly #isSettled: (channel: string) => boolean;
  #queue: Request[] = [];
  readonly #inFlight = new Map<number, Request>();
  #link: Link | undefined;
  #nextId = 0;
  #allowed = { inFlight: IN_FLIGHT, perSecond: PER_SECOND };
  #budget = { commands: PER_SECOND, at: 0 };
  #callOff: (() => void) | undefined;

  constructor(clock: Clock, maxQueue: number, isSettled: (channel: string) => boolean) {
    this.#clock = clock;
    this.#maxQueue = maxQueue;
    this.#isSettled = isSettled;
  }

  /** Asks, now or when there is a connection. */
  ask(ask: Ask, options: RequestOptions = {}): Promise<ServerMessage> {
    return new Promise((resolve, reject) => {
      if (options.signal?.aborted) return reject(options.signal.reason);
      if (!options.urgent && this.#queue.length >= this.#maxQueue) return reject(this.#full());
      const request: Request = { ...options, ask, notBefore: 0, resolve, reject };
      this.#bound(request);
      if (request.urgent) this.#putFirst(request);
      else this.#queue.push(request);
      this.pump();
    });
  }

  /** A connection is open. Ids begin after that of connect. */
  attach(link: Link, limits: Limits) {
    this.#link = link;
    this.#nextId = 2;
    const perSecond = limits.commandsPerSecond || PER_SECOND;
    this.#allowed = { inFlight: limits.commandsInFlight || IN_FLIGHT, perSecond };
    this.#budget = { commands: perSecond, at: this.#clock.now() };
    this.pump();
  }

  /** The connection is lost. */
  detach() {
    this.#link = undefined;
    this.#callOff?.();
    const lost = [...this.#inFlight.values()];
    this.#inFlight.clear();
    const waiting = [...lost.filter((request) => request.safe), ...this.#queue];
    this.#queue = waiting.filter((request) => !request.urgent);
    for (const request of [...lost, ...waiting]) if (!this.#queue.includes(request)) request.reject(unknownOutcome());
  }

  /** Fails everything: there will be no connection. */
  fail(error: ChannelsError) {
    this.detach();
    for (const request of this.#queue.splice(0)) request.reject(error);
  }

  /** A reply came; false where nobody waits for it. */
  reply(message: ServerMessage): boolean {
    const request = this.#inFlight.get(message.id);
    if (!request) return false;
    this.#inFlight.delete(message.id);
    if (message.case !== "error") request.resolve(message);
    else if (request.safe && message.value.retryAfterMs > 0) this.#later(request, message.value.retryAfterMs);
    else request.reject(ChannelsError.of(message.value));
    this.pump();
    return true;
  }

  /** Sends what may be sent. Called whenever something that holds back has changed. */
  pump() {
    if (!this.#link) return;
    this.#callOff?.();
    const now = this.#clock.now();
    let wait = Number.POSITIVE_INFINITY;
    for (const request of [...this.#queue]) {
      if (this.#inFlight.size >= this.#allowed.inFlight) break;
      if (request.notBefore > now) {
        wait = Math.min(wait, request.notBefore - now);
      } else if (request.urgent || !request.channel || this.#isSettled(request.channel)) {
        const pause = this.#spend(now);
        wait = Math.min(wait, pause || wait);
        if (pause) break;
        this.#send(request);
      }
    }
    if (wait < Number.POSITIVE_INFINITY) this.#callOff = this.#clock.after(wait, () => this.pump());
  }

  #send(request: Request) {
    this.#queue.splice(this.#queue.indexOf(request), 1);
    const id = this.#nextId++;
    this.#inFlight.set(id, request);
    try {
      this.#link?.send({ id, ...request.ask });
    } catch (error) {
      this.#inFlight.delete(id);
      request.reject(error);
    }
  }

  /** Takes one command from the budget, or says how long to wait for it. */
  #spend(now: number): number {
    const { perSecond } = this.#allowed;
    const filled = this.#budget.commands + ((now - this.#budget.at) / 1000) * perSecond;
    this.#budget = { commands: Math.min(perSecond, filled), at: now };
    if (this.#budget.commands < 1) return Math.ceil(((1 - this.#budget.commands) / perSecond) * 1000);
    this.#budget.commands -= 1;
    return 0;
  }

  #later(request: Request, afterMs: number) {
    request.notBefore = this.#clock.now() + afterMs * (1 + RETRY_SPREAD * this.#clock.random());
    this.#putFirst(request);
  }

  /** At the front, but behind what the core asks itself. */
  #putFirst(request: Request) {
    const urgent = this.#queue.findIndex((one) => !one.urgent);
    this.#queue.splice(urgent < 0 ? this.#queue.length : urgent, 0, request);
  }

  /** Ends with its time or its signal, wherever it is. */
  #bound(request: Request) {
    const { signal, timeoutMs, resolve, reject } = request;
    let callOff: (() => void) | undefined;
    const ending =
      <A>(then: (value: A) => void) =>
      (value: A) => {
        callOff?.();
        signal?.removeEventListener("abort", abort);
        this.#forget(request);
        then(value);
      };
    const abort = () => request.reject(signal?.reason);
    const late = () => request.reject(new ChannelsError("TIMEOUT", `no reply within ${timeoutMs} ms`));
    request.resolve = ending(resolve);
    request.reject = ending(reject);
    signal?.addEventListener("abort", abort);
    if (timeoutMs && timeoutMs < Number.POSITIVE_INFINITY) callOff = this.#clock.after(timeoutMs, late);
  }

  #forget(request: Request) {
    this.#queue = this.#queue.filter((one) => one !== request);
    for (const [id, one] of this.#inFlight) if (one === request) this.#inFlight.delete(id);
  }

  #full() {
    const message = `${this.#maxQueue} requests wait already (maxQueue): wait for replies before asking more`;
    return new ChannelsError("QUEUE_FULL", message);
  }
}

function unknownOutcome() {
  return new ChannelsError("UNAVAILABLE", "the connection was lost: it is not known whether this was carried out");
}
