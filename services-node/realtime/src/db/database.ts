// node:sqlite behind a small interface: prepared statements that are timed by name, and
// transactions that tell listeners what became of them. Everything is synchronous, so a
// query blocks the event loop: each one is bounded by its SQL, and slow ones are reported.
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";

export type QueryObserver = (name: string, milliseconds: number) => void;

/** A prepared statement. Row is what the SQL selects; the caller states it. */
export type Statement<Row> = {
  get(...parameters: SQLInputValue[]): Row | undefined;
  all(...parameters: SQLInputValue[]): Row[];
  /** Runs a statement that returns no rows; gives the number of rows it changed. */
  run(...parameters: SQLInputValue[]): { changes: number; id: number };
};

export class Database {
  readonly #db: DatabaseSync;
  readonly #observe: QueryObserver;
  #depth = 0;
  #afterCommit: (() => void)[] = [];
  #afterRollback: (() => void)[] = [];

  constructor(path: string, observe: QueryObserver) {
    this.#db = new DatabaseSync(path, { timeout: 5_000 });
    this.#observe = observe;
    this.#db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON");
    this.#db.exec("PRAGMA cache_size = -8192; PRAGMA temp_store = MEMORY");
  }

  statement<Row = never>(name: string, sql: string): Statement<Row> {
    const statement = this.#db.prepare(sql);
    return {
      get: (...parameters) => this.#timed(name, () => statement.get(...parameters)) as Row | undefined,
      all: (...parameters) => this.#timed(name, () => statement.all(...parameters)) as Row[],
      run: (...parameters) => this.#timed(name, () => runStatement(statement, parameters)),
    };
  }

  exec(sql: string) {
    this.#db.exec(sql);
  }

  /** Runs fn in one transaction. A transaction within a transaction is part of the outer one. */
  transaction<T>(fn: () => T): T {
    if (this.#depth > 0) return fn();
    this.#db.exec("BEGIN IMMEDIATE");
    this.#depth += 1;
    let result: T;
    try {
      result = fn();
      this.#timed("commit", () => this.#db.exec("COMMIT"));
    } catch (error) {
      this.#depth -= 1;
      if (this.#db.isTransaction) this.#db.exec("ROLLBACK");
      this.#finish(this.#afterRollback);
      throw error;
    }
    this.#depth -= 1;
    this.#finish(this.#afterCommit);
    return result;
  }

  /** Calls fn once the current transaction is durable (at once when there is none). */
  afterCommit(fn: () => void) {
    if (this.#depth > 0) this.#afterCommit.push(fn);
    else fn();
  }

  /** Calls fn if the current transaction is undone. */
  afterRollback(fn: () => void) {
    if (this.#depth > 0) this.#afterRollback.push(fn);
  }

  close() {
    if (this.#db.isOpen) this.#db.close();
  }

  #finish(callbacks: (() => void)[]) {
    this.#afterCommit = [];
    this.#afterRollback = [];
    for (const callback of callbacks) callback();
  }

  #timed<T>(name: string, fn: () => T): T {
    const start = performance.now();
    try {
      return fn();
    } finally {
      this.#observe(name, performance.now() - start);
    }
  }
}

function runStatement(statement: StatementSync, parameters: SQLInputValue[]) {
  const { changes, lastInsertRowid } = statement.run(...parameters);
  return { changes: Number(changes), id: Number(lastInsertRowid) };
}
