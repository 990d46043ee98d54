// The JSON encoding: protobuf's JSON mapping of client.proto, but with a payload's JSON value inline. Reading is lenient
// where the protocol may grow: fields and cases that are not known are passed over, absent ones have their default.
import {
  type ChannelTop,
  CLOSE_CODES,
  type Closing,
  type Command,
  type Connected,
  type Data,
  ERROR_CODES,
  type ErrorCode,
  type Failure,
  KINDS,
  type Member,
  type Position,
  type Publication,
  type ServerMessage,
  type Subscribed,
  type Ticket,
} from "../messages.ts";
import type { Codec } from "./codec.ts";

type Json = Record<string, unknown>;

const utf8 = new TextEncoder();

export const jsonCodec: Codec = {
  subprotocol: "hybrid.channels.v1.json",
  encode: (command) => JSON.stringify(commandToJson(command)),
  size: (piece) => (typeof piece === "string" ? utf8.encode(piece).byteLength : piece.byteLength),
  frame: (pieces) => `{"commands":[${pieces.join(",")}]}`,
  decode(frame) {
    const text = typeof frame === "string" ? frame : new TextDecoder().decode(frame);
    return list(object(JSON.parse(text)).messages).flatMap((message) => messageFromJson(object(message)) ?? []);
  },
};

/** A command as protobuf's JSON mapping has it, for this encoding and for requests over plain HTTP. */
export function commandToJson(command: Command): Json {
  const body = JSON_BODIES[command.case](command.value as never);
  return command.id === 0 ? { [command.case]: body } : { id: command.id, [command.case]: body };
}

const JSON_BODIES: { [C in Command as C["case"]]: (value: C["value"]) => Json } = {
  connect: ({ token, ticket, resume, client, data }) => ({
    ...(token && { token }),
    ...(ticket && { ticket }),
    ...(resume.length > 0 && { resume: resume.map((one) => withFrom({ channel: one.channel }, one.from)) }),
    ...(client && { client }),
    ...payload(data),
  }),
  subscribe: ({ channel, from, data }) => ({ ...withFrom({ channel }, from), ...payload(data) }),
  unsubscribe: ({ channel }) => ({ channel }),
  publish: ({ channel, data, key, latestKey }) => ({
    channel,
    ...payload(data),
    ...(key && { key }),
    ...(latestKey && { latestKey }),
  }),
  call: ({ method, data, idempotent }) => ({ method, ...payload(data), ...(idempotent && { idempotent }) }),
  presence: ({ channel }) => ({ channel }),
  history: ({ channel, from, limit }) => ({ ...withFrom({ channel }, from), ...(limit > 0 && { limit }) }),
  ping: () => ({}),
  refresh: ({ token }) => ({ token }),
};

function withFrom(json: Json, from: Position | undefined): Json {
  return from ? { ...json, from: { epoch: from.epoch, offset: String(from.offset) } } : json;
}

function payload(data: Data): Json {
  if (data === undefined) return {};
  if (!(data instanceof Uint8Array)) return { data: { json: data } };
  let binary = "";
  for (const byte of data) binary += String.fromCharCode(byte);
  return { data: { binary: btoa(binary) } };
}

/** A message of the gateway; undefined where it is of a kind that this client does not know. */
export function messageFromJson(json: Json): ServerMessage | undefined {
  for (const [name, read] of Object.entries(READERS)) {
    const body = json[name];
    if (body === undefined || body === null) continue;
    return { id: number(json.id), case: name, value: read(object(body)) } as ServerMessage;
  }
  return undefined;
}

const READERS: { [M in ServerMessage as M["case"]]: (json: Json) => M["value"] } = {
  error: failure,
  connected,
  subscribed,
  unsubscribed: (json) => ({ channel: text(json.channel), error: optional(json.error, failure) }),
  published: (json) => ({
    position: optional(json.position, position),
    duplicate: json.duplicate === true,
    data: data(json.data),
  }),
  result: (json) => ({ data: data(json.data) }),
  presence: (json) => ({ members: list(json.members).map((one) => member(object(one))), total: number(json.total) }),
  history: (json) => ({
    publications: publications(json.publications),
    top: optional(json.top, position),
    found: json.found === true,
    more: json.more === true,
  }),
  pong: () => ({}),
  ticket,
  publications: (json) => ({ channel: text(json.channel), publications: publications(json.publications) }),
  presenceChange: (json) => ({
    channel: text(json.channel),
    joined: list(json.joined).map((one) => member(object(one))),
    left: list(json.left).map(text),
  }),
  heartbeat: (json) => ({ tops: list(json.tops).map((one) => top(object(one))) }),
  closing,
};

function connected(json: Json): Connected {
  const limits = object(json.limits ?? {});
  return {
    session: text(json.session),
    ticket: optional(json.ticket, ticket),
    resumed: json.resumed === true,
    subscriptions: list(json.subscriptions).map((one) => subscribed(object(one))),
    heartbeatMs: number(json.heartbeatMs),
    limits: {
      channels: number(limits.channels),
      channelNameBytes: number(limits.channelNameBytes),
      frameBytes: number(limits.frameBytes),
      commandsPerSecond: number(limits.commandsPerSecond),
      commandsInFlight: number(limits.commandsInFlight),
    },
    data: data(json.data),
  };
}

function subscribed(json: Json): Subscribed {
  return {
    channel: text(json.channel),
    kind: named(json.kind, "CHANNEL_KIND_", KINDS),
    position: optional(json.position, position),
    recovered: json.recovered === true,
    publications: publications(json.publications),
    more: json.more === true,
    data: data(json.data),
    error: optional(json.error, failure),
  };
}

function publications(json: unknown): Publication[] {
  return list(json).map((one) => publication(object(one)));
}

function publication(json: Json): Publication {
  return {
    offset: offset(json.offset),
    previous: offset(json.previous),
    data: data(json.data),
    latestKey: text(json.latestKey),
    removed: json.removed === true,
    sender: text(json.sender),
    timeMs: number(json.timeMs),
  };
}

function failure(json: Json): Failure {
  return {
    code: named(json.code, "ERROR_CODE_", ERROR_CODES) as ErrorCode,
    message: text(json.message),
    retryAfterMs: number(json.retryAfterMs),
    reason: text(json.reason),
  };
}

function closing(json: Json): Closing {
  const name = typeof json.code === "string" ? json.code.replace("CLOSE_CODE_", "") : "";
  const code = typeof json.code === "number" ? json.code : (CLOSE_CODES[name as keyof typeof CLOSE_CODES] ?? 0);
  return { code, message: text(json.message), retryAfterMs: number(json.retryAfterMs) };
}

function ticket(json: Json): Ticket {
  return { ticket: text(json.ticket), expiresInMs: number(json.expiresInMs) };
}

function top(json: Json): ChannelTop {
  return { channel: text(json.channel), top: optional(json.top, position) };
}

function position(json: Json): Position {
  return { epoch: text(json.epoch), offset: offset(json.offset) };
}

function member(json: Json): Member {
  return { session: text(json.session), subject: text(json.subject), data: data(json.data) };
}

function data(json: unknown): Data {
  if (json === undefined || json === null) return undefined;
  const { json: value, binary } = object(json);
  if (typeof binary !== "string") return value;
  return Uint8Array.from(atob(binary.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
}

function named<T extends string>(json: unknown, prefix: string, names: readonly T[]): T {
  if (typeof json === "number") return names[json] ?? names[0]!;
  const short = text(json).replace(prefix, "").toLowerCase();
  return names.find((name) => name.toLowerCase() === short) ?? names[0]!;
}

function optional<T>(json: unknown, read: (json: Json) => T): T | undefined {
  return json === undefined || json === null ? undefined : read(object(json));
}

function object(json: unknown): Json {
  if (typeof json === "object" && json !== null && !Array.isArray(json)) return json as Json;
  throw new TypeError(`an object was expected, not ${JSON.stringify(json)}`);
}

function list(json: unknown): unknown[] {
  return Array.isArray(json) ? json : [];
}

function text(json: unknown): string {
  return typeof json === "string" ? json : "";
}

function number(json: unknown): number {
  const value = typeof json === "string" ? Number(json) : json;
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}

function offset(json: unknown): bigint {
  if (typeof json === "string" && /^\d{1,20}$/.test(json)) return BigInt(json);
  return typeof json === "number" && Number.isSafeInteger(json) && json >= 0 ? BigInt(json) : 0n;
}
