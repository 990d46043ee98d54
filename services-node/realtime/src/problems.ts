// Every error that the service shows to a client: one catalogue of stable codes with their
// statuses, in the form of RFC 9457 (application/problem+json).

/** code → HTTP status and title. */
export const PROBLEMS = {
  invalid_argument: [400, "The request is not valid"],
  unauthenticated: [401, "A valid identity is required"],
  permission_denied: [403, "The identity may not do this"],
  not_found: [404, "Not found"],
  method_not_allowed: [405, "The method is not allowed here"],
  conflict: [409, "It clashes with what is there"],
  stale_revision: [412, "The resource has changed"],
  body_too_large: [413, "The body is too large"],
  unsupported_media_type: [415, "The content type is not supported"],
  limit_exceeded: [422, "More than is allowed"],
  precondition_required: [428, "A precondition is required"],
  internal: [500, "Something went wrong"],
  unavailable: [503, "Something that this needs is away"],
  overloaded: [503, "The service is at its limit"],
  draining: [503, "The service is shutting down"],
  deadline_exceeded: [504, "The deadline has passed"],
} as const satisfies Record<string, readonly [number, string]>;

export type ProblemCode = keyof typeof PROBLEMS;
export type FieldError = { field: string; description: string };
type Extra = { errors?: FieldError[]; headers?: Record<string, string>; reason?: string };

/** An error whose text a client may see. */
export class Problem extends Error {
  readonly code: ProblemCode;
  readonly errors: FieldError[] | undefined;
  readonly headers: Record<string, string>;
  /** More precisely than the code, for programs. */
  readonly reason: string;

  constructor(code: ProblemCode, detail: string, extra: Extra = {}) {
    super(detail);
    this.code = code;
    this.errors = extra.errors;
    this.reason = extra.reason ?? code;
    this.headers = { ...defaultHeaders(code), ...extra.headers };
  }

  get status(): number {
    return PROBLEMS[this.code][0];
  }

  toBody(requestId: string) {
    const [status, title] = PROBLEMS[this.code];
    const type = `urn:hybrid:problem:${this.code}`;
    const more = {
      ...(this.errors && { errors: this.errors }),
      ...(this.reason !== this.code && { reason: this.reason }),
    };
    return { type, title, status, code: this.code, detail: this.message, request_id: requestId, ...more };
  }
}

function defaultHeaders(code: ProblemCode): Record<string, string> {
  if (code === "unauthenticated") return { "www-authenticate": "Bearer" };
  if (code === "unavailable" || code === "overloaded" || code === "draining") return { "retry-after": "1" };
  return {};
}
