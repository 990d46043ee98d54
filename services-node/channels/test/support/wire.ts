// The gateway's end of both encodings, made with protobuf's own library and its JSON mapping, so that the client's
// codecs are not judged by themselves.
import { create, fromBinary, fromJson, type MessageInitShape, toBinary, toJson } from "@bufbuild/protobuf";
import { ClientFrameSchema, ServerFrameSchema } from "@hybrid/contracts/channels";
import {
  type Ask,
  type Command,
  type Data,
  ERROR_CODES,
  KINDS,
  type Publication,
  type ServerMessage,
  type Subscribed,
} from "../../src/messages.ts";

export type Encoding = "json" | "proto";
type FrameInit = MessageInitShape<typeof ServerFrameSchema>;

export function encodeServer(encoding: Encoding, messages: ServerMessage[]): string | Uint8Array {
  const frame = create(ServerFrameSchema, { messages: messages.map(messageInit) } as FrameInit);
  if (encoding === "proto") return toBinary(ServerFrameSchema, frame);
  return JSON.stringify(inline(toJson(ServerFrameSchema, frame), JSON.parse));
}

export function decodeClient(encoding: Encoding, frame: string | Uint8Array): Command[] {
  const json = () => inline(JSON.parse(String(frame)), JSON.stringify) as Parameters<typeof fromJson>[1];
  const { commands } =
    encoding === "proto" ? fromBinary(ClientFrameSchema, frame as Uint8Array) : fromJson(ClientFrameSchema, json());
  return commands.map(({ id, kind }) => ({ id, case: kind.case, value: fields(kind.value) }) as Command & Ask);
}

/** Reads a frame of the gateway, strictly: throws at what the contract does not have. */
export function readServer(text: string) {
  return fromJson(ServerFrameSchema, inline(JSON.parse(text), JSON.stringify) as Parameters<typeof fromJson>[1]);
}

/** The one exception to protobuf's mapping: Payload.json is the value itself. */
function inline(json: unknown, change: (value: never) => unknown): unknown {
  if (Array.isArray(json)) return json.map((one) => inline(one, change));
  if (typeof json !== "object" || json === null) return json;
  return Object.fromEntries(
    Object.entries(json).map(([name, value]) => {
      if (name !== "data" || typeof value !== "object" || value === null) return [name, inline(value, change)];
      return [name, "json" in value ? { json: change(value.json as never) } : value];
    }),
  );
}

function messageInit({ id, ...message }: ServerMessage) {
  return { id, kind: { case: message.case, value: init(message.value) } };
}

/** Our names and numbers as the contract's. */
function init(value: unknown, name = ""): unknown {
  if (name === "data") return payload(value);
  if (name === "kind") return KINDS.indexOf(value as (typeof KINDS)[number]);
  if (name === "code") return typeof value === "number" ? value : ERROR_CODES.indexOf(value as "INVALID");
  if (name === "timeMs") return BigInt(value as number);
  if (Array.isArray(value)) return value.map((one) => init(one));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, init(one, key)]));
}

function payload(value: Data) {
  if (value === undefined) return undefined;
  if (value instanceof Uint8Array) return { kind: { case: "binary", value } };
  return { kind: { case: "json", value: JSON.stringify(value) } };
}

/** What protobuf's library decoded, without its own marks, payloads as their data. */
function fields(value: unknown, name = ""): unknown {
  if (name === "data") {
    const { kind } = (value ?? { kind: {} }) as { kind: { case?: string; value?: string } };
    return kind.case === "json" ? JSON.parse(kind.value!) : kind.value;
  }
  if (Array.isArray(value)) return value.map((one) => fields(one));
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
  const own = Object.entries(value).filter(([key]) => !key.startsWith("$"));
  return Object.fromEntries(own.map(([key, one]) => [key, fields(one, key)]));
}

const publication: Publication = {
  offset: 2n ** 63n,
  previous: 12n,
  data: { text: "ß 🎉", list: [null, 1.5, true] },
  latestKey: "k",
  removed: false,
  sender: "alice",
  timeMs: 1_764_000_000_000,
};
const removal: Publication = { ...publication, offset: 14n, data: undefined, removed: true, sender: "" };
const failure = { code: "RATE_LIMITED", message: "slower", retryAfterMs: 250, reason: "chat.too_fast" } as const;
const position = { epoch: "e1", offset: 2n ** 53n + 1n };
const subscribed: Subscribed = {
  ...{ channel: "chat:a", kind: "stream", position, recovered: true, more: true, error: undefined },
  publications: [publication, removal],
  data: new Uint8Array([0, 255, 254, 253]),
};
const limits = { channels: 1, channelNameBytes: 2, frameBytes: 3, commandsPerSecond: 4, commandsInFlight: 5 };
const ticket = { ticket: "t", expiresInMs: 300_000 };
const members = [{ session: "s", subject: "alice", data: null }];

/** One message of each kind at least. */
export const MESSAGES: ServerMessage[] = [
  { id: 1, case: "error", value: failure },
  {
    ...{ id: 1, case: "connected" },
    value: { session: "s", ticket, resumed: true, subscriptions: [subscribed], heartbeatMs: 5, limits, data: "hi" },
  },
  { id: 2, case: "subscribed", value: { ...subscribed, kind: "latest", error: failure, data: undefined } },
  { id: 0, case: "unsubscribed", value: { channel: "chat:a", error: failure } },
  { id: 3, case: "unsubscribed", value: { channel: "chat:a", error: undefined } },
  { id: 4, case: "published", value: { position, duplicate: true, data: [] } },
  { id: 5, case: "result", value: { data: false } },
  { id: 6, case: "presence", value: { members, total: 7 } },
  { id: 7, case: "history", value: { publications: [publication], top: position, found: true, more: true } },
  { id: 8, case: "pong", value: {} },
  { id: 9, case: "ticket", value: ticket },
  { id: 0, case: "publications", value: { channel: "chat:a", publications: [publication] } },
  { id: 0, case: "presenceChange", value: { channel: "chat:a", joined: members, left: ["x"] } },
  { id: 0, case: "heartbeat", value: { tops: [{ channel: "chat:a", top: position }] } },
  { id: 0, case: "closing", value: { code: 4000, message: "deploy", retryAfterMs: 1200 } },
];

/** One command of each kind at least. */
export const COMMANDS: Command[] = [
  {
    ...{ id: 1, case: "connect" },
    value: { token: "a", ticket: "b", resume: [{ channel: "c", from: position }], client: "d", data: { e: 1 } },
  },
  { id: 1, case: "connect", value: { token: "", ticket: "", resume: [], client: "", data: undefined } },
  { id: 2, case: "subscribe", value: { channel: "chat:a", from: position, data: "x" } },
  { id: 3, case: "subscribe", value: { channel: "chat:a", from: undefined, data: undefined } },
  { id: 4, case: "unsubscribe", value: { channel: "chat:a" } },
  { id: 5, case: "publish", value: { channel: "chat:a", data: null, key: "k", latestKey: "l" } },
  { id: 6, case: "publish", value: { channel: "chat:a", data: new Uint8Array([251, 255]), key: "k", latestKey: "" } },
  { id: 7, case: "call", value: { method: "chat.rooms", data: [1], idempotent: true } },
  { id: 8, case: "presence", value: { channel: "chat:a" } },
  { id: 9, case: "history", value: { channel: "chat:a", from: position, limit: 10 } },
  { id: 0, case: "ping", value: {} },
  { id: 11, case: "refresh", value: { token: "t" } },
];
