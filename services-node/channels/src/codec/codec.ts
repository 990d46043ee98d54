// What an encoding has to do. Commands are encoded one by one, so that the link can fill frames up to their limit.
import type { Command, ServerMessage } from "../messages.ts";

export type Piece = string | Uint8Array;

export interface Codec {
  readonly subprotocol: string;
  /** One command; its size is what counts against the frame's limit. */
  encode(command: Command): Piece;
  size(piece: Piece): number;
  /** One frame of several pieces. */
  frame(pieces: Piece[]): string | Uint8Array<ArrayBuffer>;
  /** Throws where the frame is not one. */
  decode(frame: string | ArrayBuffer): ServerMessage[];
}

/** Bytes that a frame adds around its pieces, at most, for each. */
export const FRAME_OVERHEAD = 16;
