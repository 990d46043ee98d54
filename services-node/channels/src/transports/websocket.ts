// Commands and messages over a WebSocket. What is sent within one turn of the event loop leaves in as few frames as the
// limit allows.
import { type Codec, FRAME_OVERHEAD, type Piece } from "../codec/codec.ts";
import type { Closed, Dial, Link, LinkHandler } from "../core/link.ts";
import { ChannelsError } from "../errors.ts";
import { CLOSE_CODES } from "../messages.ts";

/** What is used of a WebSocket: the browser's, Node's or that of the package ws. */
export type WebSocketClass = new (url: string, protocols: string[]) => WebSocket;

/** A frame's limit before the gateway has said its own. */
const FRAME_BYTES = 64 << 10;
const NORMAL = 1000;

export function webSocketDial(url: string, codec: Codec, Class: WebSocketClass): Dial {
  return (handler) => new WebSocketLink(new Class(socketUrl(url), [codec.subprotocol]), codec, handler);
}

function socketUrl(url: string): string {
  return `${url.replace(/^http/, "ws")}/websocket`;
}

class WebSocketLink implements Link {
  readonly #socket: WebSocket;
  readonly #codec: Codec;
  #frameBytes = FRAME_BYTES;
  #waiting: Piece[] = [];

  constructor(socket: WebSocket, codec: Codec, handler: LinkHandler) {
    this.#socket = socket;
    this.#codec = codec;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => handler.opened();
    socket.onclose = ({ code, reason }) => this.#closed(handler, readReason(code, reason));
    // A close follows, which says no less.
    socket.onerror = () => {};
    socket.onmessage = ({ data }) => {
      try {
        handler.received(codec.decode(data));
      } catch (error) {
        this.close(CLOSE_CODES.BAD_FRAME);
        handler.closed({ code: 1006, message: `the gateway sent a frame that is none: ${error}`, retryAfterMs: 0 });
      }
    };
  }

  send(...[command]: Parameters<Link["send"]>) {
    const piece = this.#codec.encode(command);
    const size = this.#codec.size(piece) + FRAME_OVERHEAD;
    if (size > this.#frameBytes) {
      throw new ChannelsError("TOO_LARGE", `${size} bytes are more than a frame may have: ${this.#frameBytes}`);
    }
    this.#waiting.push(piece);
    if (this.#waiting.length === 1) queueMicrotask(() => this.#flush());
  }

  limit(frameBytes: number) {
    this.#frameBytes = frameBytes;
  }

  close(code = NORMAL) {
    const socket = this.#socket;
    socket.onopen = socket.onclose = socket.onmessage = null;
    this.#waiting = [];
    socket.close(code);
  }

  #flush() {
    const pieces = this.#waiting.splice(0);
    let frame: Piece[] = [];
    let size = 0;
    for (const piece of pieces) {
      const more = this.#codec.size(piece) + 1;
      if (size + more + FRAME_OVERHEAD > this.#frameBytes) {
        this.#write(frame);
        [frame, size] = [[], 0];
      }
      frame.push(piece);
      size += more;
    }
    this.#write(frame);
  }

  #write(pieces: Piece[]) {
    if (pieces.length > 0 && this.#socket.readyState === 1) this.#socket.send(this.#codec.frame(pieces));
  }

  #closed(handler: LinkHandler, closed: Closed) {
    this.#waiting = [];
    handler.closed(closed);
  }
}

/** A close frame's reason is `{"code":"DRAINING","retry_after_ms":1200}` where it is the gateway that closes. */
function readReason(code: number, reason: string): Closed {
  try {
    const { message, retry_after_ms: retryAfterMs } = JSON.parse(reason) as Record<string, unknown>;
    return {
      code,
      message: typeof message === "string" ? message : "",
      retryAfterMs: typeof retryAfterMs === "number" && retryAfterMs > 0 ? retryAfterMs : 0,
    };
  } catch {
    return { code, message: reason, retryAfterMs: 0 };
  }
}
