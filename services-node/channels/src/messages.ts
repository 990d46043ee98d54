// The protocol's messages as the client handles them, whatever the encoding: every field is there, offsets are bigints,
// names are without their enum's prefix, and a payload is the JSON value or the bytes themselves. See client.proto.

/** A JSON value, bytes (Uint8Array), or undefined where nothing was said. */
export type Data = unknown;

/** A place in a channel's history. Offsets of different epochs have nothing to do with each other. */
export type Position = { epoch: string; offset: bigint };

export type ChannelKind = "unspecified" | "live" | "stream" | "latest";

export const KINDS: readonly ChannelKind[] = ["unspecified", "live", "stream", "latest"];

/** What the gateway and the application refuse with, by the numbers of the contract. */
export const ERROR_CODES = [
  "UNSPECIFIED",
  "INVALID",
  "UNAUTHENTICATED",
  "EXPIRED",
  "PERMISSION_DENIED",
  "NOT_FOUND",
  "CONFLICT",
  "LIMIT_EXCEEDED",
  "RATE_LIMITED",
  "UNAVAILABLE",
  "DEADLINE_EXCEEDED",
  "INTERNAL",
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/** Codes of close frames. 4000 to 4499: reconnect; 4500 to 4999: do not. */
export const CLOSE_CODES = {
  DRAINING: 4000,
  SLOW: 4001,
  SILENT: 4002,
  EXPIRED: 4003,
  OVERLOADED: 4004,
  FLOOD: 4005,
  REPLACED: 4500,
  BAD_FRAME: 4501,
  REFUSED: 4502,
  REVOKED: 4503,
} as const;

export type Failure = { code: ErrorCode; message: string; retryAfterMs: number; reason: string };

export type Publication = {
  offset: bigint;
  previous: bigint;
  data: Data;
  latestKey: string;
  removed: boolean;
  sender: string;
  timeMs: number;
};

export type Member = { session: string; subject: string; data: Data };
export type Resume = { channel: string; from: Position | undefined };
export type Ticket = { ticket: string; expiresInMs: number };
export type Limits = {
  channels: number;
  channelNameBytes: number;
  frameBytes: number;
  commandsPerSecond: number;
  commandsInFlight: number;
};

export type Subscribed = {
  channel: string;
  kind: ChannelKind;
  position: Position | undefined;
  recovered: boolean;
  publications: Publication[];
  more: boolean;
  data: Data;
  error: Failure | undefined;
};

export type Connected = {
  session: string;
  ticket: Ticket | undefined;
  resumed: boolean;
  subscriptions: Subscribed[];
  heartbeatMs: number;
  limits: Limits;
  data: Data;
};

export type Published = { position: Position | undefined; duplicate: boolean; data: Data };
export type PresenceList = { members: Member[]; total: number };
export type PresenceChange = { channel: string; joined: Member[]; left: string[] };
export type HistoryPage = { publications: Publication[]; top: Position | undefined; found: boolean; more: boolean };
export type Closing = { code: number; message: string; retryAfterMs: number };
export type ChannelTop = { channel: string; top: Position | undefined };

/** What the gateway says. `id` 0: a push. A case that this client does not know is left out by the codecs. */
export type ServerMessage = { id: number } & (
  | { case: "error"; value: Failure }
  | { case: "connected"; value: Connected }
  | { case: "subscribed"; value: Subscribed }
  | { case: "unsubscribed"; value: { channel: string; error: Failure | undefined } }
  | { case: "published"; value: Published }
  | { case: "result"; value: { data: Data } }
  | { case: "presence"; value: PresenceList }
  | { case: "history"; value: HistoryPage }
  | { case: "pong"; value: Record<string, never> }
  | { case: "ticket"; value: Ticket }
  | { case: "publications"; value: { channel: string; publications: Publication[] } }
  | { case: "presenceChange"; value: PresenceChange }
  | { case: "heartbeat"; value: { tops: ChannelTop[] } }
  | { case: "closing"; value: Closing }
);

/** What is asked. */
export type Ask =
  | { case: "connect"; value: { token: string; ticket: string; resume: Resume[]; client: string; data: Data } }
  | { case: "subscribe"; value: { channel: string; from: Position | undefined; data: Data } }
  | { case: "unsubscribe"; value: { channel: string } }
  | { case: "publish"; value: { channel: string; data: Data; key: string; latestKey: string } }
  | { case: "call"; value: { method: string; data: Data; idempotent: boolean } }
  | { case: "presence"; value: { channel: string } }
  | { case: "history"; value: { channel: string; from: Position | undefined; limit: number } }
  | { case: "ping"; value: Record<string, never> }
  | { case: "refresh"; value: { token: string } };

export type Command = { id: number } & Ask;
