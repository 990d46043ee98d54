// ETags of notes, conditional requests (RFC 9110, section 13) and page cursors.
import { Problem } from "../problems.ts";
import type { Precondition } from "./repository.ts";

const CURSOR = /^1:([1-9]\d{0,15})$/;

export function etagOf(revision: number): string {
  return `"${revision}"`;
}

/** The check that If-Match asks for. Weak tags never match. */
export function ifMatch(header: string | undefined, required: boolean): Precondition {
  if (header === undefined) {
    if (!required) return () => {};
    throw new Problem("precondition_required", "Send If-Match with the ETag of the revision you have seen.");
  }
  const tags = parseTags(header);
  return (revision) => {
    if (tags === "*" || tags.includes(etagOf(revision))) return;
    const headers = { etag: etagOf(revision) };
    throw new Problem("stale_revision", "The note has changed since that revision.", { headers });
  };
}

/** Whether If-None-Match says that the client has this revision. Weak comparison. */
export function notModified(header: string | undefined, revision: number): boolean {
  if (header === undefined) return false;
  const tags = parseTags(header);
  return tags === "*" || tags.some((tag) => tag.replace(/^W\//, "") === etagOf(revision));
}

export function encodeCursor(position: number): string {
  return Buffer.from(`1:${position}`).toString("base64url");
}

/** The position of a cursor; anything that was not made by encodeCursor is a problem. */
export function decodeCursor(cursor: string): number {
  const match = CURSOR.exec(Buffer.from(cursor, "base64url").toString("latin1"));
  const position = Number(match?.[1]);
  if (match && Number.isSafeInteger(position) && encodeCursor(position) === cursor) return position;
  throw new Problem("invalid_argument", "The cursor is not one that this service gave.", {
    errors: [{ field: "cursor", description: "is not a cursor" }],
  });
}

function parseTags(header: string): "*" | string[] {
  if (header.trim() === "*") return "*";
  return header.match(/(W\/)?"[^"]*"/g) ?? [];
}
