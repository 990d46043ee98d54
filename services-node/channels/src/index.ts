// @hybrid/channels: the client for browsers and Node. Read in this order: client.ts, channel.ts, core/session.ts,
// core/subscription.ts, core/requests.ts, transports/, codec/. docs/channels.md is the protocol.

export {
  type AskOptions,
  Channel,
  type ChannelEvents,
  type Person,
  type PublishOptions,
  type Receipt,
  type Received,
} from "./channel.ts";
export { type CallOptions, ChannelsClient, type ClientEvents, type ClientOptions } from "./client.ts";
export type { Codec } from "./codec/codec.ts";
export type { Clock } from "./core/clock.ts";
export type { State } from "./core/session.ts";
export type { SubscriptionOptions } from "./core/subscription.ts";
export { ChannelsError, type ChannelsErrorCode } from "./errors.ts";
export { type ChannelKind, CLOSE_CODES, type Data, type Position } from "./messages.ts";
export type { NamespaceTypes, Schema } from "./schema.ts";
