// The plain HTTP requests of the sse transport, and their problem documents as the protocol's errors.
import { commandToJson } from "../codec/json.ts";
import { type Command, ERROR_CODES, type ErrorCode, type Failure } from "../messages.ts";

export type Refusal = { failure: Failure; status: number };

const BY_STATUS: Record<number, ErrorCode> = {
  400: "INVALID",
  401: "UNAUTHENTICATED",
  403: "PERMISSION_DENIED",
  404: "NOT_FOUND",
  409: "CONFLICT",
  413: "LIMIT_EXCEEDED",
  429: "RATE_LIMITED",
  503: "UNAVAILABLE",
  504: "DEADLINE_EXCEEDED",
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
    query.set("epoch", from.epoch);
    query.set("offset", String(from.offset));
  }
  if (limit > 0) query.set("limit", String(limit));
  return get(`${url}/history?${query}`, token, {});
}

/** What an answer that is no success says: problem+json where it is the gateway's. */
export async function problemOf(response: Response): Promise<Refusal> {
  const problem = (await response.json().catch(() => ({}))) as Record<string, unknown>;
  const retry = Number(response.headers.get("retry-after") ?? 0);
  const said = String(problem.code ?? "").toUpperCase() as ErrorCode;
  const failure: Failure = {
    code: ERROR_CODES.includes(said) ? said : (BY_STATUS[response.status] ?? "INTERNAL"),
    message: String(problem.detail ?? problem.title ?? `status ${response.status}`),
    retryAfterMs: Number.isFinite(retry) ? retry * 1000 : 0,
    reason: String(problem.reason ?? ""),
  };
  return { failure, status: response.status };
}

function bearer(token: string): Record<string, string> {
  return token ? { authorization: `Bearer ${token}` } : {};
}
