// The notes API's shapes. One source for validation, types and the OpenAPI document.
import { type Static, Type } from "typebox";

const Title = Type.String({ minLength: 1, maxLength: 200, format: "text" });
const Text = Type.String({ maxLength: 100_000, format: "text", description: "Up to 100,000 characters." });
const Readers = Type.Array(Type.String({ minLength: 1, maxLength: 128, pattern: "^[^\\s]+$", format: "text" }), {
  maxItems: 100,
  uniqueItems: true,
  description: 'Subjects that may read the note; "*" stands for everybody.',
});
const Timestamp = Type.String({ description: "RFC 3339, UTC." });

/** A note without its text, as lists show it. */
export const NoteSummary = Type.Object({
  id: Type.String(),
  title: Title,
  owner: Type.String(),
  readers: Readers,
  revision: Type.Integer({ description: "Increases with every change; the ETag." }),
  created_at: Timestamp,
  updated_at: Timestamp,
});

export const Note = Type.Object({ ...NoteSummary.properties, text: Text });
export const NotModified = Type.Null({ description: "The client has this revision." });
export const NoteContent = Type.Object({ title: Title, text: Text }, { additionalProperties: false });
export const NoteReaders = Type.Object({ readers: Readers }, { additionalProperties: false });
export const NotePath = Type.Object({ id: Type.String({ maxLength: 64 }) });
export const NotePage = Type.Object({
  items: Type.Array(NoteSummary),
  next_cursor: Type.Unsafe<string | null>({ type: ["string", "null"], description: "null on the last page." }),
});
export const PageQuery = Type.Object(
  {
    limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }),
    cursor: Type.Optional(Type.String({ maxLength: 200, description: "next_cursor of the page before." })),
  },
  { additionalProperties: false },
);

export type Note = Static<typeof Note>;
export type NoteSummary = Static<typeof NoteSummary>;
export type NoteContent = Static<typeof NoteContent>;
