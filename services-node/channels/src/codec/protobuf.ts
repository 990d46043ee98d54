// The protobuf encoding: smaller frames and payloads of bytes without base64, for a dependency on the contracts'
// generated types. `new ChannelsClient({ encoding: protobuf })`.
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  ClientFrameSchema,
  type Payload,
  type Publication as ProtoPublication,
  type Subscribed as ProtoSubscribed,
  ServerFrameSchema,
} from "@hybrid/contracts/channels";
import {
  type Ask,
  type Command,
  type Data,
  ERROR_CODES,
  type Failure,
  KINDS,
  type Publication,
  type ServerMessage,
  type Subscribed,
} from "../messages.ts";
import type { Codec, Piece } from "./codec.ts";

type ProtoMessage = ReturnType<typeof decodeFrame>[number];
type Kind = ProtoMessage["kind"];
type Body<C extends Kind["case"]> = Extract<Kind, { case: C }>["value"];
type ProtoFailure = Body<"error">;
type CommandInit = NonNullable<MessageInitShape<typeof ClientFrameSchema>["commands"]>[number];

export const protobuf: Codec = {
  subprotocol: "hybrid.channels.v1.proto",
  // A frame with one command: frames that are laid end to end are one frame, as protobuf merges repeated fields.
  encode: (command) => toBinary(ClientFrameSchema, create(ClientFrameSchema, { commands: [commandInit(command)] })),
  size: (piece) => piece.length,
  frame: concatenate,
  decode(frame) {
    if (typeof frame === "string") throw new TypeError("a text frame came over the protobuf encoding");
    return decodeFrame(new Uint8Array(frame)).flatMap((message) => fromProto(message) ?? []);
  },
};

function decodeFrame(bytes: Uint8Array) {
  return fromBinary(ServerFrameSchema, bytes).messages;
}

function concatenate(pieces: Piece[]): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces as Uint8Array[]) {
    frame.set(piece, at);
    at += piece.length;
  }
  return frame;
}

function commandInit(command: Command): CommandInit {
  return { id: command.id, kind: kindInit(command) };
}

function kindInit(ask: Ask): NonNullable<CommandInit["kind"]> {
  if (ask.case === "connect" || ask.case === "subscribe" || ask.case === "publish" || ask.case === "call") {
    const { data, ...rest } = ask.value;
    const filled = { ...rest, ...(data !== undefined && { data: payload(data) }) };
    return { case: ask.case, value: filled } as NonNullable<CommandInit["kind"]>;
  }
  return ask;
}

function payload(data: Data) {
  if (data instanceof Uint8Array) return { kind: { case: "binary" as const, value: data } };
  return { kind: { case: "json" as const, value: JSON.stringify(data) } };
}

function fromProto({ id, kind }: ProtoMessage): ServerMessage | undefined {
  if (kind.case === undefined) return undefined;
  const read = READERS[kind.case] as (value: Kind["value"]) => unknown;
  return { id, case: kind.case, value: read(kind.value) } as ServerMessage;
}

const READERS: { [M in ServerMessage as M["case"]]: (value: Body<M["case"]>) => M["value"] } = {
  error: failure,
  connected: (value) => ({
    session: value.session,
    ticket: value.ticket,
    resumed: value.resumed,
    subscriptions: value.subscriptions.map(subscribed),
    heartbeatMs: value.heartbeatMs,
    limits: {
      channels: value.limits?.channels ?? 0,
      channelNameBytes: value.limits?.channelNameBytes ?? 0,
      frameBytes: value.limits?.frameBytes ?? 0,
      commandsPerSecond: value.limits?.commandsPerSecond ?? 0,
      commandsInFlight: value.limits?.commandsInFlight ?? 0,
    },
    data: data(value.data),
  }),
  subscribed,
  unsubscribed: ({ channel, error }) => ({ channel, error: error && failure(error) }),
  published: (value) => ({ position: value.position, duplicate: value.duplicate, data: data(value.data) }),
  result: (value) => ({ data: data(value.data) }),
  presence: ({ members, total }) => ({ members: members.map(member), total }),
  history: ({ publications, top, found, more }) => ({ publications: publications.map(publication), top, found, more }),
  pong: () => ({}),
  ticket: ({ ticket, expiresInMs }) => ({ ticket, expiresInMs }),
  publications: ({ channel, publications }) => ({ channel, publications: publications.map(publication) }),
  presenceChange: ({ channel, joined, left }) => ({ channel, joined: joined.map(member), left }),
  heartbeat: ({ tops }) => ({ tops: tops.map(({ channel, top }) => ({ channel, top })) }),
  closing: ({ code, message, retryAfterMs }) => ({ code, message, retryAfterMs }),
};

function subscribed(value: ProtoSubscribed): Subscribed {
  const { channel, kind, position, recovered, more, error } = value;
  return {
    ...{ channel, position, recovered, more },
    kind: KINDS[kind] ?? "unspecified",
    publications: value.publications.map(publication),
    data: data(value.data),
    error: error && failure(error),
  };
}

function publication(value: ProtoPublication): Publication {
  const { offset, previous, latestKey, removed, sender, timeMs } = value;
  return { offset, previous, latestKey, removed, sender, timeMs: Number(timeMs), data: data(value.data) };
}

function failure({ code, message, retryAfterMs, reason }: ProtoFailure): Failure {
  return { code: ERROR_CODES[code] ?? "UNSPECIFIED", message, retryAfterMs, reason };
}

function member({ session, subject, data: payload }: { session: string; subject: string; data?: Payload }) {
  return { session, subject, data: data(payload) };
}

function data(payload: Payload | undefined): Data {
  if (payload?.kind.case === "binary") return payload.kind.value;
  return payload?.kind.case === "json" ? JSON.parse(payload.kind.value) : undefined;
}
