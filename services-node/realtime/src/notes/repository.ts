// Notes in SQLite. Every write is one transaction with its change and its outbox row.
// Access: the owner may do everything, readers may read, others see nothing.
import { randomUUID } from "node:crypto";
import type { RequestContext } from "../context.ts";
import type { Database } from "../db/database.ts";
import { type ChangeKind, EVERYBODY, type Journal } from "../db/journal.ts";
import { Problem } from "../problems.ts";
import type { Note, NoteContent, NoteSummary } from "./schemas.ts";

type SummaryRow = Omit<NoteSummary, "readers"> & { seq: number; readers: string };
type Row = SummaryRow & { text: string };

/** Decides whether a write may go on, given the revision it would replace. Throws if not. */
export type Precondition = (revision: number) => void;

/** Another holder of a note's text (a document being edited), kept in step with the note. */
export type TextMirror = {
  /** Brings the note up to date with the mirror, before the note is written. */
  flush(id: string): void;
  /** Within the transaction that replaced the note's text. */
  replaced(id: string, text: string): void;
  /** Within the transaction that deleted the note. */
  removed(id: string): void;
};

const NO_MIRROR: TextMirror = { flush() {}, replaced() {}, removed() {} };

const COLUMNS = "n.seq, n.id, n.title, n.owner, n.readers, n.revision, n.created_at, n.updated_at";

export class NoteRepository {
  readonly #database: Database;
  readonly #journal: Journal;
  readonly #sql;
  #mirror = NO_MIRROR;

  constructor(database: Database, journal: Journal) {
    this.#database = database;
    this.#journal = journal;
    this.#sql = prepare(database);
  }

  mirrorTo(mirror: TextMirror) {
    this.#mirror = mirror;
  }

  create(owner: string, content: NoteContent, context: RequestContext): Note {
    const at = new Date().toISOString();
    const note = { id: randomUUID(), ...content, owner, readers: [], revision: 1, created_at: at, updated_at: at };
    return this.#database.transaction(() => {
      const { id: seq } = this.#sql.insert.run(note.id, note.title, note.text, owner, "[]", 1, at, at);
      this.#sql.insertAccess.run(seq, JSON.stringify([owner]));
      this.#record("created", note, [], [owner], context);
      return note;
    });
  }

  /** The note, whoever asks. For the service's own work. */
  find(id: string): Note | undefined {
    const row = this.#sql.find.get(id);
    return row && toNote(row);
  }

  /** The note, if the subject may read it; otherwise it does not exist for them. */
  read(id: string, subject: string): Note {
    const note = this.find(id);
    if (!note || !mayRead(note, subject)) throw new Problem("not_found", "There is no such note.");
    return note;
  }

  /** The notes that the subject may read, newest first, from below a position. */
  list(subject: string, before: number, limit: number): { items: NoteSummary[]; next: number | undefined } {
    const rows = this.#sql.list.all(subject, before, limit + 1, EVERYBODY, before, limit + 1, limit + 1);
    const page = rows.slice(0, limit);
    return { items: page.map(toSummary), next: rows.length > limit ? page.at(-1)?.seq : undefined };
  }

  update(id: string, subject: string, content: NoteContent, check: Precondition, context: RequestContext): Note {
    // Edits that came before this write count as a revision, so that If-Match sees them.
    this.#mirror.flush(id);
    return this.#database.transaction(() => {
      const note = this.#write(id, subject, check, "updated", context, (before) => ({ ...before, ...content }));
      this.#mirror.replaced(id, note.text);
      return note;
    });
  }

  /** Sets who may read the note. The owner always may and is not listed. */
  share(id: string, subject: string, readers: string[], check: Precondition, context: RequestContext): Note {
    const others = readers.filter((reader) => reader !== subject);
    return this.#write(id, subject, check, "shared", context, (note) => ({ ...note, readers: others }));
  }

  /** Replaces the text on behalf of the note's editors. Gives nothing when the note is gone. */
  replaceText(id: string, text: string, context: RequestContext): Note | undefined {
    return this.#database.transaction(() => {
      const note = this.find(id);
      if (!note || note.text === text) return note;
      return this.#save(note, { ...note, text }, "updated", context);
    });
  }

  /** Deletes the note; the deletion takes the next revision. */
  delete(id: string, subject: string, check: Precondition, context: RequestContext): void {
    this.#mirror.flush(id);
    this.#database.transaction(() => {
      const note = this.#readOwned(id, subject, check);
      const at = new Date().toISOString();
      this.#sql.delete.run(id);
      this.#mirror.removed(id);
      const last = { ...note, revision: note.revision + 1, updated_at: at };
      this.#record("deleted", last, audience(note), [], context);
    });
  }

  #write(
    id: string,
    subject: string,
    check: Precondition,
    kind: ChangeKind,
    context: RequestContext,
    change: (note: Note) => Note,
  ): Note {
    return this.#database.transaction(() => {
      const note = this.#readOwned(id, subject, check);
      return this.#save(note, change(note), kind, context);
    });
  }

  #readOwned(id: string, subject: string, check: Precondition): Note {
    const note = this.read(id, subject);
    if (note.owner !== subject) throw new Problem("permission_denied", "Only the owner may do this.");
    check(note.revision);
    return note;
  }

  #save(before: Note, changed: Note, kind: ChangeKind, context: RequestContext): Note {
    const after = { ...changed, revision: before.revision + 1, updated_at: new Date().toISOString() };
    const { title, text, readers, revision, updated_at, id } = after;
    const { seq } = this.#sql.update.get(title, text, JSON.stringify(readers), revision, updated_at, id)!;
    if (kind === "shared") {
      this.#sql.deleteAccess.run(seq);
      this.#sql.insertAccess.run(seq, JSON.stringify(audience(after)));
    }
    this.#record(kind, after, audience(before), audience(after), context);
    return after;
  }

  #record(kind: ChangeKind, note: Note, before: string[], after: string[], context: RequestContext) {
    const entry = { kind, note_id: note.id, revision: note.revision, at: note.updated_at, before, after };
    this.#journal.record(entry, context);
  }
}

export function mayRead(note: Pick<Note, "owner" | "readers">, subject: string): boolean {
  return note.owner === subject || note.readers.includes(subject) || note.readers.includes(EVERYBODY);
}

function audience(note: Note): string[] {
  return [note.owner, ...note.readers];
}

function toSummary({ seq: _, readers, ...row }: SummaryRow): NoteSummary {
  return { ...row, readers: JSON.parse(readers) as string[] };
}

function toNote({ text, ...row }: Row): Note {
  return { ...toSummary(row), text };
}

function prepare(database: Database) {
  return {
    insert: database.statement(
      "note_insert",
      `INSERT INTO notes (id, title, text, owner, readers, revision, created_at, updated_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    find: database.statement<Row>("note_find", `SELECT ${COLUMNS}, n.text FROM notes n WHERE n.id = ?`),
    // Two bounded index scans, so that a page costs the same however many notes there are.
    list: database.statement<SummaryRow>(
      "note_list",
      `SELECT ${COLUMNS} FROM notes n WHERE n.seq IN (
         SELECT note_seq FROM (SELECT note_seq FROM note_access WHERE subject = ? AND note_seq < ? ORDER BY note_seq DESC LIMIT ?)
         UNION
         SELECT note_seq FROM (SELECT note_seq FROM note_access WHERE subject = ? AND note_seq < ? ORDER BY note_seq DESC LIMIT ?)
       ) ORDER BY n.seq DESC LIMIT ?`,
    ),
    update: database.statement<{ seq: number }>(
      "note_update",
      "UPDATE notes SET title = ?, text = ?, readers = ?, revision = ?, updated_at = ? WHERE id = ? RETURNING seq",
    ),
    delete: database.statement("note_delete", "DELETE FROM notes WHERE id = ?"),
    deleteAccess: database.statement("access_delete", "DELETE FROM note_access WHERE note_seq = ?"),
    insertAccess: database.statement(
      "access_insert",
      "INSERT OR IGNORE INTO note_access (note_seq, subject) SELECT ?, value FROM json_each(?)",
    ),
  };
}
