// The notes API: /api/notes.
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import type { FastifyReply } from "fastify";
import { requireUser } from "../identity.ts";
import { decodeCursor, encodeCursor, etagOf, ifMatch, notModified } from "./preconditions.ts";
import type { NoteRepository } from "./repository.ts";
import { Note, NoteContent, NotePage, NotePath, NoteReaders, NotModified, PageQuery } from "./schemas.ts";

const tags = ["notes"];

export const noteRoutes: FastifyPluginAsyncTypebox<{ notes: NoteRepository }> = async (app, { notes }) => {
  app.addHook("onRequest", async (request) => {
    requireUser(request.identity);
  });

  app.post(
    "/api/notes",
    { schema: { tags, summary: "Create a note", body: NoteContent, response: { 201: Note } } },
    async (request, reply) => {
      const note = notes.create(request.identity.subject, request.body, request.requestContext);
      return send(reply.code(201).header("location", `/api/notes/${note.id}`), note);
    },
  );

  app.get(
    "/api/notes",
    { schema: { tags, summary: "List the notes you may read", querystring: PageQuery, response: { 200: NotePage } } },
    async ({ query, identity }) => {
      const before = query.cursor === undefined ? Number.MAX_SAFE_INTEGER : decodeCursor(query.cursor);
      const { items, next } = notes.list(identity.subject, before, query.limit);
      return { items, next_cursor: next === undefined ? null : encodeCursor(next) };
    },
  );

  app.get(
    "/api/notes/:id",
    { schema: { tags, summary: "Read a note", params: NotePath, response: { 200: Note, 304: NotModified } } },
    async (request, reply) => {
      const note = notes.read(request.params.id, request.identity.subject);
      if (!notModified(request.headers["if-none-match"], note.revision)) return send(reply, note);
      return reply.code(304).header("etag", etagOf(note.revision)).send(null);
    },
  );

  app.put(
    "/api/notes/:id",
    { schema: { tags, summary: "Replace a note", params: NotePath, body: NoteContent, response: { 200: Note } } },
    async (request, reply) => {
      const { id } = request.params;
      const check = ifMatch(request.headers["if-match"], true);
      return send(reply, notes.update(id, request.identity.subject, request.body, check, request.requestContext));
    },
  );

  app.put(
    "/api/notes/:id/readers",
    { schema: { tags, summary: "Share a note", params: NotePath, body: NoteReaders, response: { 200: Note } } },
    async (request, reply) => {
      const { id } = request.params;
      const check = ifMatch(request.headers["if-match"], false);
      return send(
        reply,
        notes.share(id, request.identity.subject, request.body.readers, check, request.requestContext),
      );
    },
  );

  app.delete(
    "/api/notes/:id",
    { schema: { tags, summary: "Delete a note", params: NotePath } },
    async (request, reply) => {
      const check = ifMatch(request.headers["if-match"], false);
      notes.delete(request.params.id, request.identity.subject, check, request.requestContext);
      return reply.code(204).send();
    },
  );
};

function send(reply: FastifyReply, note: Note) {
  return reply.header("etag", etagOf(note.revision)).send(note);
}
