// GET /api/changes: the change feed as Server-Sent Events, resumable by Last-Event-ID.
import { type FastifyPluginAsyncTypebox, Type } from "@fastify/type-provider-typebox";
import type { FastifyRequest } from "fastify";
import { requireUser } from "../identity.ts";
import { Problem } from "../problems.ts";
import type { ChangeFeed } from "./feed.ts";

const Query = Type.Object(
  { last_event_id: Type.Optional(Type.String({ maxLength: 20, description: "As the Last-Event-ID header." })) },
  { additionalProperties: false },
);

const description =
  "Events: ready, changed (kind: created, updated, shared), removed (kind: deleted, withdrawn), and reset when the " +
  "changes since the asked id are no longer kept: load the notes again. Comments keep the connection alive.";

export const changeRoutes: FastifyPluginAsyncTypebox<{ feed: ChangeFeed; maxClients: number }> = async (
  app,
  { feed, maxClients },
) => {
  app.addHook("onRequest", async (request) => {
    requireUser(request.identity);
  });
  // Open streams would keep the server from closing.
  app.addHook("preClose", async () => feed.close());

  app.get(
    "/api/changes",
    {
      exposeHeadRoute: false,
      schema: { tags: ["changes"], summary: "Follow the notes you may read", description, querystring: Query },
    },
    async (request, reply) => {
      const after = lastEventId(request, request.query.last_event_id);
      if (feed.size >= maxClients) throw new Problem("overloaded", "Too many clients follow the changes.");
      reply.hijack();
      const response = reply.raw;
      response.on("error", () => {});
      response.writeHead(200, {
        "content-type": "text/event-stream",
        "cache-control": "no-store",
        "x-accel-buffering": "no",
        "x-request-id": request.id,
      });
      await feed.connect(request.identity.subject, response, after).catch((error) => {
        request.log.error({ err: error }, "change feed failed");
        response.destroy();
      });
    },
  );
};

function lastEventId(request: FastifyRequest, query: string | undefined): number | undefined {
  // A browser that reconnects sends the header, which is newer than the page's first URL.
  const header = request.headers["last-event-id"];
  const value = (typeof header === "string" && header !== "" ? header : query) ?? undefined;
  if (value === undefined) return undefined;
  if (/^\d{1,15}$/.test(value)) return Number(value);
  const errors = [{ field: "last_event_id", description: "must be an id that this feed sent" }];
  throw new Problem("invalid_argument", "The last event id is not valid.", { errors });
}
