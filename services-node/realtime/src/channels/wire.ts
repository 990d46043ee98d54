// Between values and what the link carries: payloads, and problems as errors. What is no problem of ours becomes
// INTERNAL without a word about why.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { ErrorCode, type ErrorSchema, type Payload, type PayloadSchema } from "@hybrid/contracts/channels";
import { Problem, type ProblemCode } from "../problems.ts";

const CODES: Record<ProblemCode, ErrorCode> = {
  invalid_argument: ErrorCode.INVALID,
  unauthenticated: ErrorCode.UNAUTHENTICATED,
  permission_denied: ErrorCode.PERMISSION_DENIED,
  not_found: ErrorCode.NOT_FOUND,
  method_not_allowed: ErrorCode.INVALID,
  conflict: ErrorCode.CONFLICT,
  stale_revision: ErrorCode.CONFLICT,
  body_too_large: ErrorCode.LIMIT_EXCEEDED,
  unsupported_media_type: ErrorCode.INVALID,
  limit_exceeded: ErrorCode.LIMIT_EXCEEDED,
  precondition_required: ErrorCode.INVALID,
  internal: ErrorCode.INTERNAL,
  unavailable: ErrorCode.UNAVAILABLE,
  overloaded: ErrorCode.UNAVAILABLE,
  draining: ErrorCode.UNAVAILABLE,
  deadline_exceeded: ErrorCode.DEADLINE_EXCEEDED,
};

/** The problem as the client gets it. `retry-after` becomes retry_after_ms. */
export function toError(error: unknown): MessageInitShape<typeof ErrorSchema> {
  if (!(error instanceof Problem)) {
    return { code: ErrorCode.INTERNAL, message: "The application failed to answer.", reason: "internal" };
  }
  const retryAfterMs = Number(error.headers["retry-after"] ?? 0) * 1000;
  return { code: CODES[error.code], message: error.message, reason: error.reason, retryAfterMs };
}

/** The value of a payload; undefined where there is none. Bytes are bytes. */
export function fromPayload(payload: Payload | undefined): unknown {
  const data = payload?.kind;
  if (data?.case !== "json") return data?.value;
  try {
    return JSON.parse(data.value);
  } catch {
    throw new Problem("invalid_argument", "The data is not JSON.");
  }
}

/** What JSON or bytes become; nothing where there is nothing. */
export function toPayload(value: unknown): MessageInitShape<typeof PayloadSchema> | undefined {
  if (value === undefined) return undefined;
  if (value instanceof Uint8Array) return { kind: { case: "binary", value } };
  return { kind: { case: "json", value: JSON.stringify(value) } };
}
