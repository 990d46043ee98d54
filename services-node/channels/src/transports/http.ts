// The plain HTTP requests of the sse transport, and their problem documents as the protocol's errors.
import { commandToJson } from "../codec/json.ts";
import type { Command, ErrorCode, Failure } from "../messages.ts";

export type Refusal = { failure: Failure; status: number };

/** The gateway's problem codes, which all its planes share, as this protocol's. */
const BY_PROBLEM: Record<string, ErrorCode> = {
  invalid_argument: "INVALID",
  unauthenticated: "UNAUTHENTICATED",
  token_expired: "EXPIRED",
  permission_denied: "PERMISSION_DENIED",
  not_found: "NOT_FOUND",
  aborted: "CONFLICT",
  body_too_large: "LIMIT_EXCEEDED",
  resource_exhausted: "RATE_LIMITED",
  upstream_unavailable: "UNAVAILABLE",
  overloaded: "UNAVAILABLE",
  draining: "UNAVAILABLE",
  gateway_timeout: "DEADLINE_EXCEEDED",
};

export function get(url: string, token: string, headers: Record<string, string>, signal?: AbortSignal) {
  const said = Object.entries({ ...headers, ...bearer(token) }).filter(([, value]) => value !== "");
  return fetch(url, { headers: Object.fromEntries(said), cache: "no-store", ...(signal && { signal }) });
}

/** A publication or a query of history. */
export function send(url: string, token: string, command: Command): Promise<Response> {
  if (command.case !== "history") {
    const headers = { "content-type": "application/json", ...bearer(token) };
    const body = JSON.stringify(commandToJson({ ...command, id: 0 })[command.case]);
    return fetch(`${url}/publish`, { method: "POST", headers, body });
  }
  const { channel, from, limit } = command.value;
  const query = new URLSearchParams({ channel });
  if (from) {
    query.set("from.epoch", from.epoch);
    query.set("from.offset", String(from.offset));
  }
  if (limit > 0) query.set("limit", String(limit));
  return get(`${url}/history?${query}`, token, {});
}

/** What an answer that is no success says: problem+json where it is the gateway's. */
export async function problemOf(response: Response): Promise<Refusal> {
  const problem = (await response.json().catch(() => ({}))) as Record<string, unknown>;
  const retry = Number(response.headers.get("retry-after") ?? 0);
  const failure: Failure = {
    code: BY_PROBLEM[String(problem.code)] ?? (response.status < 500 ? "INVALID" : "UNAVAILABLE"),
    message: String(problem.detail ?? problem.title ?? `status ${response.status}`),
    retryAfterMs: Number.isFinite(retry) ? retry * 1000 : 0,
    reason: String(problem.reason ?? ""),
  };
  return { failure, status: response.status };
}

function bearer(token: string): Record<string, string> {
  return token ? { authorization: `Bearer ${token}` } : {};
}
