// The shared text of a collaborative document, and how plain text is brought into it.
import type * as Y from "yjs";

/** The shared type that holds a note's text, by convention of this API. */
export const TEXT_FIELD = "text";

const PREFIX = "note:";
const NOTE_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** The note that a document belongs to: `note:<id>`. */
export function noteIdOf(documentName: string): string | undefined {
  const id = documentName.startsWith(PREFIX) ? documentName.slice(PREFIX.length) : "";
  return NOTE_ID.test(id) ? id : undefined;
}

/** The document's text in the form that a note can hold. */
export function plainText(document: Y.Doc): string {
  return document.getText(TEXT_FIELD).toString().toWellFormed().replaceAll("\0", "\uFFFD");
}

/**
 * Makes the shared text equal to the given one with a single splice, so that cursors and
 * concurrent edits outside the changed span stay where they are.
 */
export function replaceText(document: Y.Doc, next: string, origin: unknown) {
  const text = document.getText(TEXT_FIELD);
  const { start, removed, inserted } = splice(text.toString(), next);
  if (removed === 0 && inserted === "") return;
  document.transact(() => {
    if (removed > 0) text.delete(start, removed);
    if (inserted !== "") text.insert(start, inserted);
  }, origin);
}

/** The one splice that turns a text into another: what is between their common ends. */
export function splice(from: string, to: string) {
  const shorter = Math.min(from.length, to.length);
  let start = 0;
  while (start < shorter && from[start] === to[start]) start += 1;
  if (splitsPair(from, start) || splitsPair(to, start)) start -= 1;
  let end = 0;
  while (end < shorter - start && from[from.length - 1 - end] === to[to.length - 1 - end]) end += 1;
  if (splitsPair(from, from.length - end) || splitsPair(to, to.length - end)) end -= 1;
  return { start, removed: from.length - end - start, inserted: to.slice(start, to.length - end) };
}

/** Whether a position lies within a surrogate pair, which Yjs must not be asked to cut. */
function splitsPair(text: string, position: number): boolean {
  if (position <= 0 || position >= text.length) return false;
  const before = text.charCodeAt(position - 1);
  const after = text.charCodeAt(position);
  return before >= 0xd800 && before <= 0xdbff && after >= 0xdc00 && after <= 0xdfff;
}
