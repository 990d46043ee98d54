// The stored change feed: what a resuming client reads, and how much of it is kept.
import type { Database } from "../db/database.ts";
import { type ChangeKind, EVERYBODY } from "../db/journal.ts";

export type StoredChange = {
  seq: number;
  kind: ChangeKind;
  note_id: string;
  revision: number;
  at: string;
  visible: 0 | 1;
};

const PRUNE_BATCH = 500;

export class ChangeRepository {
  readonly #sql;

  constructor(database: Database) {
    this.#sql = prepare(database);
  }

  /** The changes after a position that concern the subject, oldest first. */
  page(subject: string, after: number, limit: number): StoredChange[] {
    return this.#sql.page.all(subject, after, limit, EVERYBODY, after, limit, limit);
  }

  /** The position of the newest change; 0 before the first. */
  latest(): number {
    return this.#sql.latest.get()?.seq ?? 0;
  }

  /** The earliest position from which everything that followed is still kept. */
  floor(): number {
    const oldest = this.#sql.oldest.get()?.seq;
    return oldest === null || oldest === undefined ? this.latest() : oldest - 1;
  }

  /** Drops one batch of what is beyond the bound. Gives whether there is more to drop. */
  prune(retained: number): boolean {
    const floor = this.floor();
    const target = this.latest() - retained;
    if (floor >= target) return false;
    this.#sql.prune.run(Math.min(target, floor + PRUNE_BATCH));
    return floor + PRUNE_BATCH < target;
  }
}

function prepare(database: Database) {
  return {
    // Two bounded index scans. A row for the subject itself outweighs one for everybody:
    // who is still a reader keeps the note when "*" is withdrawn.
    page: database.statement<StoredChange>(
      "change_page",
      `SELECT c.seq, c.kind, c.note_id, c.revision, c.at, a.visible FROM (
         SELECT seq, MAX(visible) AS visible FROM (
           SELECT * FROM (SELECT seq, visible FROM change_audience WHERE subject = ? AND seq > ? ORDER BY seq LIMIT ?)
           UNION ALL
           SELECT * FROM (SELECT seq, visible FROM change_audience WHERE subject = ? AND seq > ? ORDER BY seq LIMIT ?)
         ) GROUP BY seq ORDER BY seq LIMIT ?
       ) a JOIN changes c USING (seq) ORDER BY c.seq`,
    ),
    latest: database.statement<{ seq: number }>(
      "change_latest",
      "SELECT seq FROM sqlite_sequence WHERE name = 'changes'",
    ),
    oldest: database.statement<{ seq: number | null }>("change_oldest", "SELECT MIN(seq) AS seq FROM changes"),
    prune: database.statement("change_prune", "DELETE FROM changes WHERE seq <= ?"),
  };
}
