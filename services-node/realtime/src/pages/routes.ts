// The pages over HTTP, for everybody: they hold nothing that is anybody's. Browsers keep them and ask whether they have
// changed; a strict policy lets them load and call this site alone.
import type { FastifyPluginAsync, FastifyReply } from "fastify";
import { Problem } from "../problems.ts";
import { PageFiles } from "./files.ts";

const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const HEADERS = {
  "cache-control": "no-cache",
  "content-security-policy": POLICY,
  "cross-origin-opener-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
};

export const pageRoutes: FastifyPluginAsync<{ files?: PageFiles }> = async (app, { files = new PageFiles() }) => {
  const schema = { hide: true };
  app.get("/app", { schema }, async (_, reply) => reply.redirect("/app/", 308));
  app.get<{ Params: { "*": string } }>("/app/*", { schema }, async (request, reply) => {
    const file = files.find(request.params["*"]);
    if (!file) throw new Problem("not_found", "There is no page at this path.");
    reply.headers({ ...HEADERS, etag: file.etag });
    return isKnown(request.headers["if-none-match"], file.etag)
      ? notModified(reply)
      : reply.type(file.type).send(file.body);
  });
};

function isKnown(header: string | undefined, etag: string): boolean {
  return header?.split(",").some((one) => ["*", etag].includes(one.trim().replace(/^W\//, ""))) ?? false;
}

function notModified(reply: FastifyReply) {
  return reply.code(304).send();
}
