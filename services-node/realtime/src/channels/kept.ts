// What must be published although this process may die before the gateway has it: a row in the transaction that made it
// so, deleted when the gateway has answered. The gateway knows its key, so a second sending changes nothing.
import type { Database, Statement } from "../db/database.ts";
import type { Log } from "../log.ts";
import { Problem } from "../problems.ts";
import type { Emission, EmitResult } from "./emits.ts";

type Row = { seq: number; channel: string; key: string; data: string };
type Dependencies = { database: Database; emit: (emission: Emission) => Promise<EmitResult>; log: Log };

/** Rows on their way at a time; the rest waits in the table. */
const IN_FLIGHT = 128;
const PAUSE_MS = 1_000;

export class KeptEmits {
  readonly #deps: Dependencies;
  readonly #sql: {
    insert: Statement<never>;
    next: Statement<Row>;
    remove: Statement<never>;
    count: Statement<{ n: number }>;
  };
  readonly #flying = new Set<number>();
  /** Up to here everything is on its way. */
  #taken = 0;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(deps: Dependencies) {
    this.#deps = deps;
    const { database } = deps;
    this.#sql = {
      insert: database.statement("emit_insert", "INSERT INTO channel_emits (channel, key, data) VALUES (?, ?, ?)"),
      next: database.statement<Row>(
        "emit_next",
        "SELECT seq, channel, key, data FROM channel_emits WHERE seq > ? ORDER BY seq LIMIT ?",
      ),
      remove: database.statement("emit_remove", "DELETE FROM channel_emits WHERE seq = ?"),
      count: database.statement<{ n: number }>("emit_count", "SELECT COUNT(*) AS n FROM channel_emits"),
    };
  }

  get size(): number {
    return this.#sql.count.get()!.n;
  }

  /** Call it inside the transaction. The key makes it one publication however often it is sent. */
  add({ channel, key, data }: { channel: string; key: string; data: unknown }) {
    this.#sql.insert.run(channel, key, JSON.stringify(data));
    this.#deps.database.afterCommit(() => setImmediate(this.wake));
  }

  /** Sends what waits. Called at the start, and after every commit that added something. */
  wake = () => {
    if (this.#stopped || this.#flying.size >= IN_FLIGHT || this.#timer) return;
    for (const row of this.#sql.next.all(this.#taken, IN_FLIGHT)) {
      this.#taken = row.seq;
      if (this.#flying.has(row.seq)) continue;
      this.#flying.add(row.seq);
      void this.#send(row).finally(() => {
        this.#flying.delete(row.seq);
        this.wake();
      });
    }
  };

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  async #send({ seq, channel, key, data }: Row) {
    try {
      await this.#deps.emit({ channel, key, data: JSON.parse(data) });
    } catch (error) {
      if (this.#stopped) return;
      if (!(error instanceof Problem && error.code === "invalid_argument")) return this.#again(seq - 1);
      this.#deps.log.error({ err: error, channel }, "the gateway refuses a publication");
    }
    if (!this.#stopped) this.#sql.remove.run(seq);
  }

  /** Begins again after this row and a pause. */
  #again(after: number) {
    this.#taken = Math.min(this.#taken, after);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.wake();
    }, PAUSE_MS).unref();
  }
}
