// Channels without WebSockets: server-sent events for what comes, plain HTTP for publications and history. Commands are
// carried out here as far as that goes; the channels of one event stream are fixed, so a change opens a new one, which
// goes on where the old one was (Last-Event-ID).
import { messageFromJson } from "../codec/json.ts";
import type { Clock } from "../core/clock.ts";
import type { Dial, Link, LinkHandler } from "../core/link.ts";
import { ChannelsError } from "../errors.ts";
import { type Ask, CLOSE_CODES, type Command, type Failure, type ServerMessage, type Subscribed } from "../messages.ts";
import { EventReader, type ServerEvent } from "./event_stream.ts";
import { get, problemOf, type Refusal, send } from "./http.ts";

/** The reply to the subscription of the query's first channel has this id. */
const FIRST_CHANNEL = 2;

type Memory = { lastEventId: string };

/** Subscriptions that are asked for together share one stream. */
const GATHER_MS = 5;
/** The gateway sends a comment well within this time. */
const SILENCE_MS = 60_000;
/** This link watches for silence itself: without subscriptions there is nothing to hear. */
const NO_HEARTBEAT_MS = 2 ** 29;
const LIMITS = { channels: 0, channelNameBytes: 0, frameBytes: 0, commandsPerSecond: 0, commandsInFlight: 0 };

export function eventsDial(url: string, clock: Clock): Dial {
  const memory: Memory = { lastEventId: "" };
  return (handler) => new EventsLink(url, clock, memory, handler);
}

class EventsLink implements Link {
  readonly #url: string;
  readonly #clock: Clock;
  readonly #memory: Memory;
  readonly #handler: LinkHandler;
  /** The channels that are wanted, with the command that waits for its reply; 0: it has it. */
  readonly #channels = new Map<string, number>();
  /** The channels of the stream, in the order of its query: its replies are numbered by it. */
  #order: string[] = [];
  #token = "";
  #isClosed = false;
  #stream: AbortController | undefined;
  #callOffOpen: (() => void) | undefined;
  #callOffSilence: (() => void) | undefined;

  constructor(url: string, clock: Clock, memory: Memory, handler: LinkHandler) {
    this.#url = url;
    this.#clock = clock;
    this.#memory = memory;
    this.#handler = handler;
    queueMicrotask(() => this.#isClosed || handler.opened());
  }

  send(command: Command) {
    const { id } = command;
    if (command.case === "connect") this.#connect(id, command.value.token);
    else if (command.case === "refresh") this.#refresh(id, command.value.token);
    else if (command.case === "subscribe") this.#change(() => this.#channels.set(command.value.channel, id));
    else if (command.case === "unsubscribe") this.#unsubscribe(id, command.value.channel);
    else if (command.case === "publish" || command.case === "history") void this.#request(command);
    else if (command.case === "ping") this.#reply({ id, case: "pong", value: {} });
    else throw new ChannelsError("UNSUPPORTED", `${command.case} needs a WebSocket: the transport is sse`);
  }

  limit() {}

  close() {
    this.#isClosed = true;
    this.#callOffOpen?.();
    this.#callOffSilence?.();
    this.#stream?.abort();
  }

  /** The stream is opened with the first subscription; until then there is nothing to ask the gateway. */
  #connect(id: number, token: string) {
    this.#token = token;
    const nothing = { session: "", ticket: undefined, resumed: false, subscriptions: [], data: undefined };
    this.#reply({ id, case: "connected", value: { ...nothing, heartbeatMs: NO_HEARTBEAT_MS, limits: LIMITS } });
  }

  #refresh(id: number, token: string) {
    this.#token = token;
    this.#reply({ id, case: "ticket", value: { ticket: "", expiresInMs: 0 } });
  }

  #unsubscribe(id: number, channel: string) {
    this.#change(() => this.#channels.delete(channel));
    this.#reply({ id, case: "unsubscribed", value: { channel, error: undefined } });
  }

  #reply(message: ServerMessage) {
    queueMicrotask(() => this.#tell([message]));
  }

  #tell(messages: ServerMessage[]) {
    if (!this.#isClosed) this.#handler.received(messages);
  }

  #change(change: () => void) {
    change();
    this.#callOffOpen?.();
    this.#callOffOpen = this.#clock.after(GATHER_MS, () => void this.#open());
  }

  async #open() {
    this.#stream?.abort();
    this.#callOffSilence?.();
    if (this.#channels.size === 0) return;
    const stream = new AbortController();
    this.#stream = stream;
    this.#order = [...this.#channels.keys()];
    const query = new URLSearchParams(this.#order.map((name) => ["channel", name]));
    try {
      const headers = { "last-event-id": this.#memory.lastEventId, accept: "text/event-stream" };
      const response = await get(`${this.#url}/events?${query}`, this.#token, headers, stream.signal);
      if (!response.ok || !response.body) return this.#refused(await problemOf(response));
      await this.#read(response.body, stream);
      if (!stream.signal.aborted) this.#closed("the event stream ended", 0);
    } catch (error) {
      if (!stream.signal.aborted) this.#closed(String(error), 0);
    }
  }

  async #read(body: ReadableStream<Uint8Array>, stream: AbortController) {
    const [reader, text] = [new EventReader(), new TextDecoder()];
    this.#heard();
    for await (const chunk of body as unknown as AsyncIterable<Uint8Array>) {
      if (stream.signal.aborted) return;
      this.#heard();
      for (const event of reader.read(text.decode(chunk, { stream: true }))) this.#event(event);
    }
  }

  /** The data is a frame, whatever the event's name. */
  #event({ data, id }: ServerEvent) {
    if (id !== undefined) this.#memory.lastEventId = id;
    const { messages } = JSON.parse(data) as { messages?: Record<string, unknown>[] };
    this.#tell((messages ?? []).flatMap((one) => this.#adapt(messageFromJson(one))));
  }

  /** What the stream says of itself becomes the reply to the command that asked for it. */
  #adapt(message: ServerMessage | undefined): ServerMessage[] {
    if (message?.case === "connected") {
      return message.value.subscriptions.filter(({ error }) => !error).flatMap((value) => this.#subscribed(value));
    }
    if (message?.case === "subscribed") return this.#subscribed(message.value);
    if (message?.case === "error") return this.#denied(this.#order[message.id - FIRST_CHANNEL], message.value);
    return message ? [{ ...message, id: 0 }] : [];
  }

  #subscribed(value: Subscribed): ServerMessage[] {
    const { channel, publications } = value;
    const id = this.#channels.get(channel);
    if (id === undefined) return [];
    this.#channels.set(channel, 0);
    if (id) return [{ id, case: "subscribed", value }];
    // It went on in a new stream. Where something is missing, it is asked for as a subscription of its own.
    if (value.recovered) return [{ id: 0, case: "publications", value: { channel, publications } }];
    return this.#denied(channel, { code: "UNAVAILABLE", message: "the history was lost", retryAfterMs: 1, reason: "" });
  }

  #denied(channel: string | undefined, error: Failure): ServerMessage[] {
    const id = channel === undefined ? undefined : this.#channels.get(channel);
    if (channel === undefined || id === undefined) return [];
    this.#channels.delete(channel);
    return [id ? { id, case: "error", value: error } : { id: 0, case: "unsubscribed", value: { channel, error } }];
  }

  /** The stream was refused before its first byte. */
  #refused({ failure, status }: Refusal) {
    if (failure.code === "EXPIRED" || failure.retryAfterMs > 0 || status >= 500) {
      return this.#closed(
        failure.message,
        failure.retryAfterMs,
        failure.code === "EXPIRED" ? CLOSE_CODES.EXPIRED : 1006,
      );
    }
    this.#tell(this.#order.flatMap((channel) => this.#denied(channel, failure)));
  }

  async #request(command: Command & Ask) {
    const failed = (value: Failure): ServerMessage => ({ id: command.id, case: "error", value });
    try {
      const response = await send(this.#url, this.#token, command);
      if (!response.ok) return this.#tell([failed((await problemOf(response)).failure)]);
      const name = command.case === "publish" ? "published" : "history";
      const reply = messageFromJson({ id: command.id, [name]: await response.json() });
      this.#tell(reply ? [reply] : []);
    } catch (error) {
      this.#tell([failed({ code: "UNAVAILABLE", message: String(error), retryAfterMs: 1_000, reason: "" })]);
    }
  }

  #heard() {
    this.#tell([]);
    this.#callOffSilence?.();
    this.#callOffSilence = this.#clock.after(SILENCE_MS, () => this.#closed("the event stream is silent", 0));
  }

  #closed(message: string, retryAfterMs: number, code = 1006) {
    if (this.#isClosed) return;
    this.close();
    this.#handler.closed({ code, message, retryAfterMs });
  }
}
