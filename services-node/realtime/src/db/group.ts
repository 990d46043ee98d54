// Writes that come within one turn of the event loop, in one transaction: a commit waits for the disk, and that wait is
// shared. A write that fails is undone alone. How many come at a time is for who asks to bound.
import type { Database } from "./database.ts";

type Job = { write: () => unknown; resolve: (value: never) => void; reject: (error: unknown) => void };
type Outcome = { job: Job; value?: unknown; error?: unknown };

export class GroupCommit {
  readonly #database: Database;
  #jobs: Job[] = [];

  constructor(database: Database) {
    this.#database = database;
  }

  /** Resolves with what `write` gives once that is durable; writes are carried out, and answered, in order. */
  run<T>(write: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#jobs.length === 0) setImmediate(() => this.#flush());
      this.#jobs.push({ write, resolve, reject });
    });
  }

  #flush() {
    const jobs = this.#jobs;
    this.#jobs = [];
    let outcomes: Outcome[];
    try {
      outcomes = this.#database.transaction(() => jobs.map((job) => this.#attempt(job)));
    } catch (error) {
      // The commit itself failed: nothing is there.
      for (const { reject } of jobs) reject(error);
      return;
    }
    for (const { job, value, error } of outcomes) {
      if (error === undefined) job.resolve(value as never);
      else job.reject(error);
    }
  }

  #attempt(job: Job): Outcome {
    this.#database.exec("SAVEPOINT job");
    try {
      const value = job.write();
      this.#database.exec("RELEASE job");
      return { job, value };
    } catch (error) {
      this.#database.exec("ROLLBACK TO job; RELEASE job");
      return { job, error };
    }
  }
}
