// One connection as the core sees it: commands go in, messages come out, and it closes once. Transports implement it.
import type { Command, ServerMessage } from "../messages.ts";

export type Closed = {
  /** The WebSocket's close code; 1006 where there is none. */
  code: number;
  message: string;
  retryAfterMs: number;
};

export interface LinkHandler {
  opened(): void;
  received(messages: ServerMessage[]): void;
  /** Once, and nothing after it. */
  closed(closed: Closed): void;
}

export interface Link {
  /** Sends a command. Throws a ChannelsError where this transport cannot carry it. */
  send(command: Command): void;
  /** What the gateway allows, once it has said so. */
  limit(frameBytes: number): void;
  /** Says nothing more to the handler. */
  close(): void;
}

export type Dial = (handler: LinkHandler) => Link;
