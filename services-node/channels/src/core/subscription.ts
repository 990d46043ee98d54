// One channel's subscription: where it is, what it has, and what to do when something is missing. A stream is a chain:
// each publication names the one before it, and heartbeats name the newest, so that a gap shows and is asked for again.
import { ChannelsError } from "../errors.ts";
import type { ChannelKind, Data, Failure, Position, Publication, Resume, Subscribed } from "../messages.ts";
import type { Clock } from "./clock.ts";
import type { Requests } from "./requests.ts";

/** idle: not wanted · joining: asked, or waiting for a connection · active · waiting: asked again after a time. */
export type Phase = "idle" | "joining" | "active" | "waiting";

/** What a subscription tells. */
export interface SubscriptionHandler {
  joined(subscribed: Subscribed): void;
  /** Something may be missing: load the state anew. */
  reset(position: Position | undefined): void;
  publication(publication: Publication): void;
  /** It has ended, for good where `retryAfterMs` is 0. */
  left(error: ChannelsError): void;
}

export type SubscriptionOptions = { data?: Data; from?: Position | undefined };

/** A client behind the newest offset may just be about to read it: this long without progress is a loss. */
const BEHIND_MS = 2_000;
/** Between two repairs of the same subscription. */
const REPAIR_MS = 1_000;

export class Subscription {
  readonly channel: string;
  readonly #clock: Clock;
  readonly #requests: Requests;
  readonly #handler: SubscriptionHandler;
  #data: Data;
  #phase: Phase = "idle";
  #isOnline = false;
  #kind: ChannelKind = "unspecified";
  #position: Position | undefined;
  /** Counts what was asked: answers to what was asked earlier are not for us any more. */
  #asked = 0;
  #repairedAt = Number.NEGATIVE_INFINITY;
  #callOff: (() => void) | undefined;
  #callOffBehind: (() => void) | undefined;

  constructor(channel: string, clock: Clock, requests: Requests, handler: SubscriptionHandler) {
    this.channel = channel;
    this.#clock = clock;
    this.#requests = requests;
    this.#handler = handler;
  }

  get phase(): Phase {
    return this.#phase;
  }

  get position(): Position | undefined {
    return this.#position;
  }

  /** Whether requests about this channel need not wait for it. */
  get isSettled(): boolean {
    return this.#phase !== "joining";
  }

  start({ data, from }: SubscriptionOptions) {
    if (this.#phase !== "idle") return;
    this.#data = data;
    this.#position = from;
    this.#phase = "joining";
    if (this.#isOnline) this.#ask();
  }

  stop() {
    if (this.#isOnline && (this.#phase === "joining" || this.#phase === "active")) this.#unsubscribe();
    this.#end();
    this.#position = undefined;
  }

  /** The connection is lost; what is wanted waits for the next one. */
  offline() {
    this.#isOnline = false;
    this.#pause();
    if (this.#phase !== "idle") this.#phase = "joining";
  }

  /** For the next Connect with a ticket. */
  resume(): Resume | undefined {
    if (this.#phase === "idle" || this.#kind === "unspecified") return undefined;
    return { channel: this.channel, from: this.#from() };
  }

  /** A connection is open. What it says of this channel, if it went on with it. */
  online(resumed: Subscribed | undefined) {
    this.#isOnline = true;
    if (this.#phase === "idle") {
      // Given up since the connection was asked for.
      if (resumed && !resumed.error) this.#unsubscribe();
    } else if (resumed && !resumed.error) this.#join(resumed);
    // What a ticket does not grant, the application may.
    else this.#ask();
  }

  /** Publications came. */
  publications(publications: Publication[]) {
    if (this.#phase !== "active") return;
    for (const publication of publications) {
      if (this.#isMissing(publication)) return this.#repair();
      this.#accept(publication);
    }
  }

  /** The gateway ended it. */
  ended(error: Failure | undefined) {
    if (this.#phase === "idle") return;
    const fallback = new ChannelsError("UNSPECIFIED", "the subscription was ended");
    this.#refused(error ? ChannelsError.of(error) : fallback);
  }

  /** The client is closed. */
  closed(error = new ChannelsError("CLOSED", "the client was closed")) {
    if (this.#phase === "idle") return;
    this.#end();
    this.#handler.left(error);
  }

  /** A heartbeat named the newest place. */
  top(top: Position) {
    if (this.#phase !== "active" || this.#kind !== "stream" || this.#callOffBehind) return;
    if (this.#has(top)) return;
    const before = this.#position?.offset;
    this.#callOffBehind = this.#clock.after(BEHIND_MS, () => {
      this.#callOffBehind = undefined;
      if (this.#has(top)) return;
      if (this.#position?.offset === before) this.#repair();
      else this.top(top);
    });
  }

  #ask() {
    this.#pause();
    this.#phase = "joining";
    const asked = ++this.#asked;
    const value = { channel: this.channel, from: this.#from(), data: this.#data };
    this.#requests.ask({ case: "subscribe", value }, { urgent: true }).then(
      (reply) => {
        if (asked === this.#asked && reply.case === "subscribed") this.#join(reply.value);
      },
      (error: ChannelsError) => {
        if (asked === this.#asked && this.#isOnline) this.#refused(error);
      },
    );
  }

  /** Joins again from the last publication that is there. */
  #repair() {
    this.#pause();
    this.#phase = "joining";
    this.#unsubscribe();
    const wait = this.#repairedAt + REPAIR_MS - this.#clock.now();
    this.#repairedAt = this.#clock.now() + Math.max(wait, 0);
    if (wait > 0) this.#callOff = this.#clock.after(wait, () => this.#ask());
    else this.#ask();
  }

  #join(subscribed: Subscribed) {
    this.#pause();
    this.#phase = "active";
    this.#kind = subscribed.kind;
    this.#handler.joined(subscribed);
    const { epoch } = subscribed.position ?? { epoch: "" };
    if (!subscribed.recovered || this.#position?.epoch !== epoch) this.#position = { epoch, offset: 0n };
    if (!subscribed.recovered) this.#handler.reset(subscribed.position);
    for (const publication of subscribed.publications) this.#accept(publication);
    if (subscribed.position && !subscribed.more) this.#reach(subscribed.position.offset);
    this.#requests.pump();
  }

  #isMissing({ previous }: Publication): boolean {
    return this.#kind === "stream" && this.#position !== undefined && previous > this.#position.offset;
  }

  /** Delivers what is new. Offsets only grow; live channels have none. */
  #accept(publication: Publication) {
    const { offset } = publication;
    if (this.#kind !== "live" && offset <= (this.#position?.offset ?? 0n)) return;
    this.#reach(offset);
    this.#handler.publication(publication);
  }

  #reach(offset: bigint) {
    if (this.#position && offset > this.#position.offset) this.#position.offset = offset;
  }

  #has({ epoch, offset }: Position): boolean {
    return this.#position !== undefined && epoch === this.#position.epoch && offset <= this.#position.offset;
  }

  #from(): Position | undefined {
    return this.#kind === "live" || !this.#position?.epoch ? undefined : { ...this.#position };
  }

  #refused(error: ChannelsError) {
    this.#asked += 1;
    if (error.retryAfterMs > 0) {
      this.#pause();
      this.#phase = "waiting";
      this.#callOff = this.#clock.after(error.retryAfterMs * (1 + this.#clock.random() * 0.2), () => this.#ask());
    } else this.#end();
    this.#handler.left(error);
    this.#requests.pump();
  }

  #unsubscribe() {
    const ask = { case: "unsubscribe" as const, value: { channel: this.channel } };
    this.#requests.ask(ask, { urgent: true }).catch(() => {});
  }

  #end() {
    this.#asked += 1;
    this.#phase = "idle";
    this.#pause();
  }

  #pause() {
    this.#callOff?.();
    this.#callOffBehind?.();
    this.#callOff = this.#callOffBehind = undefined;
  }
}
