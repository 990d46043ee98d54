// What every HTTP request gets, whichever feature answers it: identity, context, problems
// instead of bare errors, a log line and a measured duration.
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { type RequestContext, requestContext, traceIdOf } from "./context.ts";
import { IDENTITY_HEADER, type Identity, type IdentityVerifier } from "./identity.ts";
import type { Metrics } from "./metrics.ts";
import { Problem, type ProblemCode } from "./problems.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** Who calls. Only set on routes under `useIdentity`. */
    identity: Identity;
    requestContext: RequestContext;
  }
}

/** Fastify's own errors, as codes of ours. What is not listed follows from the status. */
const FRAMEWORK_CODES: Record<number, ProblemCode> = {
  404: "not_found",
  405: "method_not_allowed",
  413: "body_too_large",
  415: "unsupported_media_type",
};

const METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] as const;
const QUIET_ROUTES = new Set(["/healthz", "/readyz", "/metrics"]);

export function useHttp(app: FastifyInstance, metrics: Metrics) {
  app.decorateRequest("requestContext", null as unknown as RequestContext);
  app.addHook("onRequest", async (request, reply) => {
    reply.header("x-request-id", request.id);
    request.requestContext = requestContext(request.headers, request.id);
  });
  // The last moment before work begins: after it a begun write finishes.
  app.addHook("preHandler", async (request) => {
    const { deadline } = request.requestContext;
    if (deadline && deadline.getTime() <= Date.now()) {
      throw new Problem("deadline_exceeded", "The request's deadline passed before the work began.");
    }
  });
  app.addHook("onResponse", async (request, reply) => {
    const route = request.routeOptions.url ?? "none";
    const seconds = reply.elapsedTime / 1000;
    metrics.requests.observe({ method: request.method, route, status: String(reply.statusCode) }, seconds);
    logResponse(request, reply, route);
  });
  app.setErrorHandler((error: FastifyError, request, reply) => {
    const problem = toProblem(error);
    if (problem.status >= 500) request.log.error({ err: error }, "request failed");
    return sendProblem(reply, problem);
  });
  app.setNotFoundHandler((request, reply) => sendProblem(reply, notFound(app, request)));
}

/** Verifies the identity of every request to the routes of this scope. */
export function useIdentity(scope: FastifyInstance, verifier: IdentityVerifier) {
  scope.decorateRequest("identity", null as unknown as Identity);
  scope.addHook("onRequest", async (request) => {
    request.identity = await verifier.verify(request.headers[IDENTITY_HEADER]);
  });
}

function sendProblem(reply: FastifyReply, problem: Problem) {
  const body = JSON.stringify(problem.toBody(reply.request.id));
  return reply.code(problem.status).headers(problem.headers).type("application/problem+json").send(body);
}

function toProblem(error: FastifyError): Problem {
  if (error instanceof Problem) return error;
  const status = error.statusCode ?? 500;
  if (status >= 500) return new Problem("internal", "The service failed to answer.");
  const code = FRAMEWORK_CODES[status] ?? "invalid_argument";
  if (code !== "invalid_argument") return new Problem(code, error.message);
  return new Problem(code, error.message, { errors: [{ field: "body", description: error.message }] });
}

function notFound(app: FastifyInstance, request: FastifyRequest): Problem {
  const path = request.url.split("?", 1)[0]!;
  const allowed = METHODS.filter((method) => app.findRoute({ method, url: path }) ?? matches(app, method, path));
  if (allowed.length === 0) return new Problem("not_found", "There is nothing at this path.");
  const detail = `${request.method} is not allowed here.`;
  return new Problem("method_not_allowed", detail, { headers: { allow: allowed.join(", ") } });
}

/** findRoute compares patterns; our only parameter is an id. */
function matches(app: FastifyInstance, method: (typeof METHODS)[number], path: string) {
  const pattern = path.replace(/^\/api\/(notes|catalogue)\/[^/]+/, "/api/$1/:id");
  return pattern !== path && app.findRoute({ method, url: pattern });
}

function logResponse(request: FastifyRequest, reply: FastifyReply, route: string) {
  const line = {
    method: request.method,
    route,
    status: reply.statusCode,
    ms: Math.round(reply.elapsedTime * 10) / 10,
    trace_id: request.requestContext && traceIdOf(request.requestContext),
  };
  request.log[QUIET_ROUTES.has(route) ? "debug" : "info"](line, "request");
}
