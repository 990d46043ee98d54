// The one error that this package throws and rejects with. Its code says what a program can do about it.
import type { ErrorCode, Failure } from "./messages.ts";

/**
 * The protocol's codes, and the client's own:
 * CLOSED: the client was closed, by its owner or by the gateway for good · QUEUE_FULL: too many requests wait ·
 * TIMEOUT: no reply within the request's time, so the outcome is not known · TOO_LARGE: more than a frame may have ·
 * UNSUPPORTED: this transport cannot carry that.
 */
export type ChannelsErrorCode = ErrorCode | "CLOSED" | "QUEUE_FULL" | "TIMEOUT" | "TOO_LARGE" | "UNSUPPORTED";

type Extra = { retryAfterMs?: number; reason?: string; closeCode?: number; cause?: unknown };

export class ChannelsError extends Error {
  override readonly name = "ChannelsError";
  readonly code: ChannelsErrorCode;
  /** Try again after this time. 0: trying again does not help. */
  readonly retryAfterMs: number;
  /** The application's own code, where it is the application that refuses. */
  readonly reason: string;
  /** The WebSocket's close code, where the connection was closed for good. */
  readonly closeCode: number | undefined;

  constructor(code: ChannelsErrorCode, message: string, extra: Extra = {}) {
    super(message, extra.cause === undefined ? undefined : { cause: extra.cause });
    this.code = code;
    this.retryAfterMs = extra.retryAfterMs ?? 0;
    this.reason = extra.reason ?? "";
    this.closeCode = extra.closeCode;
  }

  static of({ code, message, retryAfterMs, reason }: Failure): ChannelsError {
    return new ChannelsError(code, message || `refused: ${code}`, { retryAfterMs, reason });
  }
}
