// What every write to a note leaves behind in the same transaction: a row of the change
// feed with its audience, and a row of the outbox. Listeners hear of it after the commit.
import type { RequestContext } from "../context.ts";
import type { Database } from "./database.ts";

export type ChangeKind = "created" | "updated" | "shared" | "deleted";

/** Stands for everybody in a list of readers. */
export const EVERYBODY = "*";

/** A committed change. The audiences do not overlap. */
export type Change = {
  seq: number;
  kind: ChangeKind;
  note_id: string;
  revision: number;
  at: string;
  /** Subjects that may read the note after the change. */
  visibleTo: string[];
  /** Subjects that could read it until the change. */
  removedFrom: string[];
};

export type Entry = Omit<Change, "seq" | "visibleTo" | "removedFrom"> & { before: string[]; after: string[] };

export class Journal {
  readonly #database: Database;
  readonly #listeners: ((change: Change) => void)[] = [];
  readonly #insertChange;
  readonly #insertAudience;
  readonly #insertOutbox;

  constructor(database: Database) {
    this.#database = database;
    this.#insertChange = database.statement(
      "change_insert",
      "INSERT INTO changes (kind, note_id, revision, at) VALUES (?, ?, ?, ?)",
    );
    this.#insertAudience = database.statement(
      "audience_insert",
      "INSERT INTO change_audience (subject, seq, visible) SELECT value, ?, ? FROM json_each(?)",
    );
    this.#insertOutbox = database.statement(
      "outbox_insert",
      `INSERT INTO outbox (note_id, operation, revision, created_at, request_id, traceparent)
       VALUES (?, ?, ?, ?, ?, ?)`,
    );
  }

  /** Hears of every committed change, in order. */
  onChange(listener: (change: Change) => void) {
    this.#listeners.push(listener);
  }

  /** Must be called inside the transaction that makes the change. */
  record({ before, after, ...entry }: Entry, context: RequestContext) {
    const removedFrom = after.includes(EVERYBODY) ? [] : before.filter((subject) => !after.includes(subject));
    const seq = this.#insertChange.run(entry.kind, entry.note_id, entry.revision, entry.at).id;
    this.#insertAudience.run(seq, 1, JSON.stringify(after));
    this.#insertAudience.run(seq, 0, JSON.stringify(removedFrom));
    const operation = entry.kind === "deleted" ? "delete" : "index";
    const { requestId, traceparent } = context;
    this.#insertOutbox.run(entry.note_id, operation, entry.revision, Date.now(), requestId, traceparent);
    this.#database.afterCommit(() => {
      for (const listener of this.#listeners) listener({ seq, ...entry, visibleTo: after, removedFrom });
    });
  }
}
