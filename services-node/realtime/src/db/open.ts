// Opens the data folder: one process at a time, schema brought up to date.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { Database, type QueryObserver } from "./database.ts";
import { MIGRATIONS } from "./migrations.ts";

export type OpenDatabase = { database: Database; close: () => void };

/** Opens (or makes) the database in the folder. Throws if another process has it. */
export function openDatabase(folder: string, observe: QueryObserver = () => {}): OpenDatabase {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const lock = lockFolder(folder);
  try {
    const database = new Database(join(folder, "realtime.db"), observe);
    migrate(database);
    return {
      database,
      close: () => {
        database.close();
        lock.close();
      },
    };
  } catch (error) {
    lock.close();
    throw error;
  }
}

/**
 * Two processes on one folder would overwrite each other's documents. The lock is an open
 * transaction on a database of its own: the system releases it however the process ends.
 */
function lockFolder(folder: string): DatabaseSync {
  const lock = new DatabaseSync(join(folder, "lock.db"), { timeout: 3_000 });
  try {
    lock.exec("BEGIN EXCLUSIVE");
    return lock;
  } catch {
    lock.close();
    throw new Error(`the data folder ${folder} is in use by another process`);
  }
}

function migrate(database: Database) {
  const current = database.statement<{ user_version: number }>("schema_version", "PRAGMA user_version").get()!;
  if (current.user_version > MIGRATIONS.length) {
    throw new Error(`the database has schema ${current.user_version}; this program knows up to ${MIGRATIONS.length}`);
  }
  for (let version = current.user_version + 1; version <= MIGRATIONS.length; version += 1) {
    database.transaction(() => {
      database.exec(MIGRATIONS[version - 1]!);
      database.exec(`PRAGMA user_version = ${version}`);
    });
  }
}
