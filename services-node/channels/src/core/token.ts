// When to ask for a new access token. Only its end is read from it, and nothing else is believed: the gateway verifies.

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
