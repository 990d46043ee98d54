// The gateway's side of the protocol as a model, at the level of messages: channels with a log, tickets, recovery, and
// the faults that a network and a busy gateway have. The same model serves tests in virtual time and over real sockets.
import type { Clock } from "../../src/core/clock.ts";
import type { Dial, Link, LinkHandler } from "../../src/core/link.ts";
import type { Ask, ChannelKind, Command, Data, Failure, Publication, ServerMessage } from "../../src/messages.ts";

type Log = { kind: ChannelKind; epoch: string; top: bigint; entries: (Publication & { key: string })[] };
type SessionState = { name: string; channels: Set<string> };

export const refusal = (code: Failure["code"], retryAfterMs = 0): Failure => ({
  ...{ code, retryAfterMs },
  message: `refused with ${code}`,
  reason: "",
});

export class HubModel {
  readonly clock: Clock;
  readonly logs = new Map<string, Log>();
  readonly sessions = new Map<string, SessionState>();
  readonly links = new Set<HubLink>();
  /** Everything that clients asked. */
  readonly asked: Command[] = [];
  /** What tests change. */
  latencyMs = 1;
  heartbeatMs = 25_000;
  kept = 1_000;
  page = 1_000;
  limits = { channels: 128, channelNameBytes: 128, frameBytes: 65_536, commandsPerSecond: 100, commandsInFlight: 32 };
  isDown = false;
  refuse: (command: Command) => Failure | undefined = () => undefined;
  answer: (method: string, data: Data) => Data = (_, data) => data;
  /** What happens to a push on its way. */
  push: (message: ServerMessage) => "deliver" | "lose" | "double" = () => "deliver";
  #epochs = 0;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  dial: Dial = (handler) => {
    const link = new HubLink(this, handler);
    if (this.isDown) this.clock.after(this.latencyMs, () => link.closed(1006));
    else this.clock.after(this.latencyMs, () => link.isGone || handler.opened());
    return link;
  };

  log(name: string): Log {
    const known = this.logs.get(name);
    if (known) return known;
    const kind = (["live", "latest"] as const).find((kind) => name.startsWith(kind)) ?? "stream";
    const log: Log = { kind, epoch: `e${++this.#epochs}`, top: 0n, entries: [] };
    this.logs.set(name, log);
    return log;
  }

  /** Publishes to everybody who is subscribed; the same key once. */
  publish(name: string, data: Data, { key = "", latestKey = "", removed = false } = {}) {
    const log = this.log(name);
    const known = key ? log.entries.find((entry) => entry.key === key) : undefined;
    if (known) return { position: { epoch: log.epoch, offset: known.offset }, duplicate: true, data: undefined };
    const previous = log.top;
    // Offsets are not contiguous.
    if (log.kind !== "live") log.top += 1n + BigInt(Math.floor(this.clock.random() * 3));
    const rest = { latestKey, removed, sender: "", timeMs: 0 };
    const entry = { offset: log.top, previous: log.kind === "stream" ? previous : 0n, data, ...rest, key };
    if (log.kind === "latest") log.entries = log.entries.filter((one) => one.latestKey !== latestKey);
    // Of a key that was removed, that stays: who was away has to hear of it.
    if (log.kind !== "live") log.entries.push(entry);
    log.entries = log.entries.slice(-this.kept);
    for (const link of this.links) link.published(name, [publicationOf(entry)]);
    return { position: { epoch: log.epoch, offset: log.top }, duplicate: false, data: undefined };
  }

  /** As a gateway that starts anew. */
  forget() {
    this.logs.clear();
    this.sessions.clear();
  }

  /** Every connection breaks. */
  cut(code = 1006, retryAfterMs = 0) {
    for (const link of [...this.links]) link.closed(code, retryAfterMs);
  }

  beat() {
    for (const link of this.links) link.beat();
  }

  count(what: Ask["case"]): number {
    return this.asked.filter((command) => command.case === what).length;
  }
}

export class HubLink implements Link {
  readonly #hub: HubModel;
  readonly #handler: LinkHandler;
  #session: SessionState | undefined;
  readonly #subscribed = new Set<string>();
  #isSilent = false;
  isGone = false;

  constructor(hub: HubModel, handler: LinkHandler) {
    this.#hub = hub;
    this.#handler = handler;
    hub.links.add(this);
  }

  send(command: Command) {
    this.#hub.clock.after(this.#hub.latencyMs, () => this.isGone || this.#carryOut(command));
  }

  limit() {}

  close() {
    this.isGone = true;
    this.#hub.links.delete(this);
  }

  closed(code: number, retryAfterMs = 0) {
    if (this.isGone) return;
    this.close();
    this.#handler.closed({ code, message: "", retryAfterMs });
  }

  silence() {
    this.#isSilent = true;
  }

  say(message: ServerMessage) {
    this.#hub.clock.after(this.#hub.latencyMs, () => {
      if (!this.isGone && !this.#isSilent) this.#handler.received([message]);
    });
  }

  published(channel: string, publications: Publication[]) {
    if (!this.#subscribed.has(channel)) return;
    const message: ServerMessage = { id: 0, case: "publications", value: { channel, publications } };
    const fate = this.#hub.push(message);
    if (fate !== "lose") this.say(message);
    if (fate === "double") this.say(message);
  }

  beat() {
    const tops = [...this.#subscribed].map((channel) => {
      const { epoch, top } = this.#hub.log(channel);
      return { channel, top: { epoch, offset: top } };
    });
    this.say({ id: 0, case: "heartbeat", value: { tops } });
  }

  #carryOut(command: Command) {
    this.#hub.asked.push(command);
    const { id } = command;
    const refused = this.#hub.refuse(command);
    if (refused) return this.say({ id, case: "error", value: refused });
    const reply = this.#reply(command);
    if (id > 0 && reply) this.say({ id, ...reply } as ServerMessage);
  }

  #reply(command: Ask): Omit<ServerMessage, "id"> | undefined {
    const { value } = command;
    if (command.case === "connect") return this.#connect(command.value);
    if (command.case === "subscribe") {
      return { case: "subscribed", value: this.#subscribe(command.value.channel, command.value.from) };
    }
    if (command.case === "unsubscribe") {
      this.#subscribed.delete(command.value.channel);
      this.#session?.channels.delete(command.value.channel);
      return { case: "unsubscribed", value: { ...command.value, error: undefined } };
    }
    if (command.case === "publish") {
      const { channel, data, key, latestKey } = command.value;
      return { case: "published", value: this.#hub.publish(channel, data, { key, latestKey }) };
    }
    if (command.case === "call") {
      return { case: "result", value: { data: this.#hub.answer(command.value.method, command.value.data) } };
    }
    if (command.case === "presence") return { case: "presence", value: { members: [], total: 0 } };
    if (command.case === "history") return { case: "history", value: this.#history(command.value) };
    if (command.case === "refresh") return { case: "ticket", value: this.#ticket() };
    return command.case === "ping" ? { case: "pong", value: value as Record<string, never> } : undefined;
  }

  #connect({ ticket, resume }: Extract<Ask, { case: "connect" }>["value"]): Omit<ServerMessage, "id"> {
    const known = this.#hub.sessions.get(ticket);
    if (ticket && !known) return { case: "error", value: refusal("EXPIRED") };
    this.#session = known ?? { name: `s${this.#hub.sessions.size + 1}`, channels: new Set() };
    this.#hub.sessions.set(this.#session.name, this.#session);
    const subscriptions = resume.map(({ channel, from }) => this.#resume(channel, from));
    const { heartbeatMs, limits } = this.#hub;
    const session = this.#session.name;
    const value = { session, ticket: this.#ticket(), resumed: known !== undefined, subscriptions, heartbeatMs, limits };
    return { case: "connected", value: { ...value, data: undefined } };
  }

  #ticket() {
    return { ticket: this.#session?.name ?? "", expiresInMs: 300_000 };
  }

  #resume(channel: string, from: { epoch: string; offset: bigint } | undefined) {
    if (this.#session?.channels.has(channel)) return this.#subscribe(channel, from);
    const nothing = {
      kind: "unspecified" as const,
      position: undefined,
      recovered: false,
      publications: [],
      more: false,
    };
    return { channel, ...nothing, data: undefined, error: refusal("PERMISSION_DENIED") };
  }

  #subscribe(channel: string, from: { epoch: string; offset: bigint } | undefined) {
    const { kind, epoch, top, entries } = this.#hub.log(channel);
    this.#subscribed.add(channel);
    this.#session?.channels.add(channel);
    const isKept = !from || (from.epoch === epoch && from.offset <= top && this.#reaches(channel, from.offset));
    const anew = kind === "latest" ? entries : [];
    const found = isKept && from ? entries.filter(({ offset }) => offset > from.offset) : anew;
    const first = kind === "stream" ? found.slice(0, this.#hub.page) : found;
    for (let at = first.length; at < found.length; at += this.#hub.page) {
      const publications = found.slice(at, at + this.#hub.page).map(publicationOf);
      this.#hub.clock.after(0, () => this.say({ id: 0, case: "publications", value: { channel, publications } }));
    }
    const more = first.length < found.length;
    const position = { epoch, offset: more ? first.at(-1)!.offset : top };
    const publications = first.map(publicationOf);
    return { channel, kind, position, recovered: isKept, publications, more, data: undefined, error: undefined };
  }

  /** Whether everything after the offset is in the log. */
  #reaches(channel: string, offset: bigint): boolean {
    const { kind, top, entries } = this.#hub.log(channel);
    return kind !== "stream" || offset === top || entries.some(({ previous }) => previous <= offset);
  }

  #history({ channel, from, limit }: Extract<Ask, { case: "history" }>["value"]) {
    const { epoch, top, entries } = this.#hub.log(channel);
    const found = !from || (from.epoch === epoch && this.#reaches(channel, from.offset));
    const after = found ? entries.filter(({ offset }) => offset > (from?.offset ?? 0n)) : [];
    const publications = after.slice(0, limit || this.#hub.page).map(publicationOf);
    return { publications, top: { epoch, offset: top }, found, more: publications.length < after.length };
  }
}

function publicationOf({ key: _, ...publication }: Publication & { key: string }): Publication {
  return publication;
}
