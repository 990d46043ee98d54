// Access tokens: asked for when one is needed, and again before it ends. Only its end is read from a token, and nothing
// else is believed: the gateway verifies.
import { ChannelsError } from "../errors.ts";
import type { Clock } from "./clock.ts";

export type TokenOptions = {
  /** Gives a token; absent: nobody in particular connects. */
  token: (() => Promise<string> | string) | undefined;
  clock: Clock;
  /** Milliseconds since 1970, for the token's end. */
  wallClock: () => number;
  /** A new token should be fetched. */
  due: () => void;
  /** It cannot be had now. */
  failed: (error: ChannelsError) => void;
};

export class TokenSource {
  readonly #options: TokenOptions;
  #isDue = false;
  #callOff: (() => void) | undefined;

  constructor(options: TokenOptions) {
    this.#options = options;
  }

  /** Whether the newest token should have been replaced already. */
  get isDue(): boolean {
    return this.#isDue;
  }

  /** A token, empty where there are none; undefined where it cannot be had. */
  async fetch(): Promise<string | undefined> {
    const { token, wallClock, failed } = this.#options;
    if (!token) return "";
    try {
      const value = await token();
      if (typeof value !== "string") throw new TypeError("token() must give a string");
      this.#isDue = false;
      const after = value === "" ? undefined : refreshAfter(value, wallClock());
      this.#callOff?.();
      if (after !== undefined) this.later(after);
      return value;
    } catch (cause) {
      failed(new ChannelsError("UNAVAILABLE", "token() failed: no access token", { cause }));
      return undefined;
    }
  }

  /** Says after a time that a new token should be fetched. */
  later(ms: number) {
    this.#callOff?.();
    this.#callOff = this.#options.clock.after(ms, () => {
      this.#isDue = true;
      this.#options.due();
    });
  }

  stop() {
    this.#callOff?.();
    this.#isDue = false;
  }
}

/** Milliseconds until a token should be replaced; undefined where it does not say when it ends. */
export function refreshAfter(token: string, nowMs: number): number | undefined {
  const { exp, iat } = claims(token);
  if (exp === undefined) return undefined;
  const left = exp * 1000 - nowMs;
  // A clock that is wrong here must not make a good token look ended, or an ended one good for ever.
  const life = iat === undefined ? left : (exp - iat) * 1000;
  return Math.max(SOONEST_MS, Math.min(left > 0 ? left : life, life) * REFRESH_AT);
}

const REFRESH_AT = 0.8;
const SOONEST_MS = 1_000;

function claims(token: string): { exp?: number; iat?: number } {
  const payload = token.split(".")[1];
  if (!payload) return {};
  try {
    const bytes = Uint8Array.from(atob(payload.replaceAll("-", "+").replaceAll("_", "/")), (char) =>
      char.charCodeAt(0),
    );
    const { exp, iat } = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
    return { ...(typeof exp === "number" && { exp }), ...(typeof iat === "number" && { iat }) };
  } catch {
    return {};
  }
}
