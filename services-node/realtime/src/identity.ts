// Identities between the gateway and this service: verifies the short-lived one that the
// gateway forwards with every request, and signs the one that this service calls with.
import { jwtVerify, SignJWT } from "jose";
import { Problem } from "./problems.ts";

/** The header that the gateway puts the identity in. */
export const IDENTITY_HEADER = "x-hybrid-identity";

export type Identity = { subject: string; kind: "user" | "service" | "anonymous" };

const SERVICE = "realtime";
const GATEWAY = "hybrid-gateway";
const LEEWAY_SECONDS = 5;
const CACHE_SIZE = 10_000;
const TOKEN_SECONDS = 60;
const KINDS = ["user", "service", "anonymous"] as const;

/** Verifies tokens, each once: a verified one is remembered until it expires. */
export class IdentityVerifier {
  readonly #key: Uint8Array;
  readonly #verified = new Map<string, { identity: Identity; expiresAt: number }>();

  constructor(secret: string) {
    this.#key = Buffer.from(secret);
  }

  /** Gives the identity, or throws the problem `unauthenticated`. */
  async verify(token: string | string[] | undefined): Promise<Identity> {
    if (typeof token !== "string") throw unauthenticated("The identity of the caller is missing.");
    const known = this.#verified.get(token);
    if (known && known.expiresAt > Date.now()) return known.identity;
    const { identity, expiresAt } = await this.#check(token);
    if (this.#verified.size >= CACHE_SIZE) this.#verified.clear();
    this.#verified.set(token, { identity, expiresAt });
    return identity;
  }

  async #check(token: string) {
    const { payload } = await jwtVerify(token, this.#key, {
      algorithms: ["HS256"],
      issuer: GATEWAY,
      audience: SERVICE,
      clockTolerance: LEEWAY_SECONDS,
      requiredClaims: ["exp", "iat", "sub"],
    }).catch(() => {
      throw unauthenticated("The identity of the caller is not valid.");
    });
    const kind = KINDS.find((name) => name === payload.kind);
    // "*" stands for everybody among readers, so nobody can be called that.
    if (!kind || !payload.sub || payload.sub === "*")
      throw unauthenticated("The identity of the caller is incomplete.");
    return { identity: { subject: payload.sub, kind }, expiresAt: (payload.exp! + LEEWAY_SECONDS) * 1000 };
  }
}

/** Signs the token that calls to the gateway's internal listener carry; renewed at half its life. */
export class ServiceToken {
  readonly #key: Uint8Array;
  #current: { token: string; renewAt: number } | undefined;

  constructor(secret: string) {
    this.#key = Buffer.from(secret);
  }

  async get(): Promise<string> {
    if (this.#current && this.#current.renewAt > Date.now()) return this.#current.token;
    const token = await new SignJWT()
      .setProtectedHeader({ alg: "HS256", typ: "JWT" })
      .setIssuer(SERVICE)
      .setAudience(GATEWAY)
      .setIssuedAt()
      .setExpirationTime(`${TOKEN_SECONDS}s`)
      .sign(this.#key);
    this.#current = { token, renewAt: Date.now() + (TOKEN_SECONDS * 1000) / 2 };
    return token;
  }
}

/** What belongs to a person needs a person. */
export function requireUser<I extends Identity>(identity: I): I {
  if (identity.kind === "anonymous") throw unauthenticated("Sign in to do this.");
  if (identity.kind !== "user") throw new Problem("permission_denied", "Only users may do this.");
  return identity;
}

function unauthenticated(detail: string) {
  return new Problem("unauthenticated", detail);
}
