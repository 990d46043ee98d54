// The catalogue API: /api/catalogue. Films come from this service's copy, recommendations and
// what becomes of a click from Python.
import { randomUUID } from "node:crypto";
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import type { FastifyRequest } from "fastify";
import type { RequestContext } from "../context.ts";
import { IDENTITY_HEADER, requireUser } from "../identity.ts";
import { Problem } from "../problems.ts";
import type { FilmList } from "./films.ts";
import type { Picks } from "./picks.ts";
import type { Recommendations } from "./recommendations.ts";
import { CataloguePage, CatalogueQuery, Film, FilmInteraction, FilmPath, Recorded } from "./schemas.ts";

const tags = ["catalogue"];

type Dependencies = { films: FilmList; recommendations: Recommendations; picks: Picks };

export const catalogueRoutes: FastifyPluginAsyncTypebox<Dependencies> = async (app, deps) => {
  const { films, recommendations, picks } = deps;
  app.addHook("onRequest", async (request) => {
    requireUser(request.identity);
    if (films.size === 0) throw new Problem("unavailable", "The catalogue was not copied from Python yet.");
  });

  app.get(
    "/api/catalogue",
    {
      schema: {
        tags,
        summary: "A page of films, and what is recommended to you",
        querystring: CatalogueQuery,
        response: { 200: CataloguePage },
      },
    },
    async (request) => {
      const { query, genre, limit, cursor, recommend } = request.query;
      const offset = Number(cursor ?? 0);
      const { items, total } = films.find(query, genre, offset, limit);
      const next = offset + limit;
      const recommended = await recommendations.forPerson(asPerson(request), recommend);
      return {
        items,
        total,
        next_cursor: next < total ? String(next) : null,
        recommendations: recommended,
      };
    },
  );

  app.get(
    "/api/catalogue/:id",
    { schema: { tags, summary: "A film", params: FilmPath, response: { 200: Film } } },
    async ({ params }) => find(films, params.id),
  );

  app.post(
    "/api/catalogue/:id/interactions",
    {
      schema: {
        tags,
        summary: "Say what you did with a film",
        description: "Answered when it is durable; the next page's recommendations know it.",
        params: FilmPath,
        body: FilmInteraction,
        response: { 200: Recorded },
      },
    },
    async (request) => {
      const { id } = find(films, request.params.id);
      const { kind, key = randomUUID() } = request.body;
      const recorded = await recommendations.record(id, kind, key, asPerson(request));
      picks.clicked(request.identity.subject, asPerson(request));
      return recorded;
    },
  );
};

function find(films: FilmList, id: string) {
  const film = films.get(id);
  if (!film) throw new Problem("not_found", "There is no such film.");
  return film;
}

/** Python is asked for the person, not for this service. */
function asPerson(request: FastifyRequest): RequestContext {
  return { ...request.requestContext, onBehalfOf: request.headers[IDENTITY_HEADER] as string };
}
