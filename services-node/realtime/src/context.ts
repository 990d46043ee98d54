// What accompanies a piece of work through the service: its request id, its place in the
// trace and its deadline. Background work makes a context of its own.
import { randomBytes } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { Problem } from "./problems.ts";

export type RequestContext = {
  requestId: string;
  traceparent: string;
  deadline: Date | undefined;
  /** The identity of the person for whom a call to Python is made; without it, this service calls for itself. */
  onBehalfOf?: string;
};

const REQUEST_ID = /^[A-Za-z0-9._-]{1,64}$/;
const TRACEPARENT = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})$/;
const TIMEOUT = /^\d{1,9}(\.\d{1,9})?$/;

/** The request id of the headers, or a new one. */
export function requestIdOf(headers: IncomingHttpHeaders): string {
  const given = headers["x-request-id"];
  return typeof given === "string" && REQUEST_ID.test(given) ? given : hex(16);
}

/** Reads trace and deadline. A timeout that is not a number is a problem of the caller's. */
export function requestContext(headers: IncomingHttpHeaders, requestId: string): RequestContext {
  return { requestId, traceparent: continueTrace(headers.traceparent), deadline: deadlineOf(headers) };
}

/** A context for work that no request waits for; it continues a trace when one is known. */
export function backgroundContext(origin: { requestId?: string | null; traceparent?: string | null } = {}) {
  return {
    requestId: origin.requestId ?? hex(16),
    traceparent: continueTrace(origin.traceparent ?? undefined),
    deadline: undefined,
  } satisfies RequestContext;
}

/** The trace id, for logs. */
export function traceIdOf(context: RequestContext): string {
  return context.traceparent.slice(3, 35);
}

/** The earlier of the request's deadline and a limit from now. */
export function deadlineWithin(context: RequestContext, limitMs: number): Date {
  const limit = Date.now() + limitMs;
  return new Date(Math.min(limit, context.deadline?.getTime() ?? limit));
}

function continueTrace(given: string | string[] | undefined): string {
  const match = typeof given === "string" ? TRACEPARENT.exec(given) : null;
  return `00-${match?.[1] ?? hex(16)}-${hex(8)}-${match?.[2] ?? "01"}`;
}

function deadlineOf(headers: IncomingHttpHeaders): Date | undefined {
  const timeout = headers["request-timeout"];
  if (timeout === undefined) return undefined;
  if (typeof timeout !== "string" || !TIMEOUT.test(timeout)) {
    throw new Problem("invalid_argument", "The request has an unusable header.", {
      errors: [{ field: "request-timeout", description: "must be a number of seconds" }],
    });
  }
  return new Date(Date.now() + Number(timeout) * 1000);
}

function hex(bytes: number): string {
  return randomBytes(bytes).toString("hex");
}
