// The outbox table: notes whose latest revision Python has yet to accept. Rows are written
// by the journal; here they are picked, dropped, postponed or parked.
import type { Database } from "../db/database.ts";

export type OutboxRow = {
  seq: number;
  note_id: string;
  operation: "index" | "delete";
  revision: number;
  attempts: number;
  created_at: number;
  request_id: string | null;
  traceparent: string | null;
};

const COLUMNS = "seq, note_id, operation, revision, attempts, created_at, request_id, traceparent";
const ERROR_LENGTH = 500;
const SCAN = 256;

export class OutboxRepository {
  readonly #sql;

  constructor(database: Database) {
    this.#sql = prepare(database);
  }

  /**
   * The rows to deliver now: of each note the newest one, because Python is sent the note as
   * it is and whatever came before is superseded. Oldest notes first; busy ones left out.
   */
  due(now: number, limit: number, busy: ReadonlySet<string>): OutboxRow[] {
    const waiting = this.#sql.due.all(now, SCAN).map((row) => row.note_id);
    const notes = [...new Set(waiting)].filter((id) => !busy.has(id)).slice(0, limit);
    return notes.map((id) => this.#sql.newest.get(id)!);
  }

  /** When the next postponed row is due; undefined when nothing waits. */
  nextDueAt(): number | undefined {
    return this.#sql.nextDue.get()?.at ?? undefined;
  }

  /** Forgets the row and those of the note that it superseded. */
  delivered(row: OutboxRow) {
    this.#sql.delete.run(row.note_id, row.seq);
  }

  postpone(row: OutboxRow, until: number, error: string) {
    this.#sql.postpone.run(row.attempts + 1, until, error.slice(0, ERROR_LENGTH), row.note_id, row.seq);
  }

  /** Gives up on the row and those it superseded. They stay as evidence until a later one is delivered. */
  park(row: OutboxRow, error: string) {
    this.#sql.park.run(row.attempts + 1, error.slice(0, ERROR_LENGTH), row.note_id, row.seq);
  }

  count(state: "pending" | "dead"): number {
    return this.#sql.count.get(state)!.count;
  }

  /** Age of the oldest pending row in milliseconds; 0 when there is none. */
  lag(now: number): number {
    const oldest = this.#sql.oldest.get()?.created_at;
    return oldest === undefined ? 0 : Math.max(0, now - oldest);
  }
}

function prepare(database: Database) {
  return {
    due: database.statement<{ note_id: string }>(
      "outbox_due",
      "SELECT note_id FROM outbox WHERE state = 'pending' AND next_attempt_at <= ? ORDER BY seq LIMIT ?",
    ),
    newest: database.statement<OutboxRow>(
      "outbox_newest",
      `SELECT ${COLUMNS} FROM outbox WHERE note_id = ? AND state = 'pending' ORDER BY seq DESC LIMIT 1`,
    ),
    nextDue: database.statement<{ at: number | null }>(
      "outbox_next_due",
      "SELECT MIN(next_attempt_at) AS at FROM outbox WHERE state = 'pending'",
    ),
    delete: database.statement("outbox_delete", "DELETE FROM outbox WHERE note_id = ? AND seq <= ?"),
    postpone: database.statement(
      "outbox_postpone",
      `UPDATE outbox SET attempts = ?, next_attempt_at = ?, last_error = ?
       WHERE note_id = ? AND seq <= ? AND state = 'pending'`,
    ),
    park: database.statement(
      "outbox_park",
      `UPDATE outbox SET state = 'dead', attempts = ?, last_error = ?
       WHERE note_id = ? AND seq <= ? AND state = 'pending'`,
    ),
    count: database.statement<{ count: number }>(
      "outbox_count",
      "SELECT COUNT(*) AS count FROM outbox WHERE state = ?",
    ),
    oldest: database.statement<{ created_at: number }>(
      "outbox_oldest",
      "SELECT created_at FROM outbox WHERE state = 'pending' ORDER BY seq LIMIT 1",
    ),
  };
}
