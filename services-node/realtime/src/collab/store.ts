// Collaborative documents in SQLite: a snapshot and the log of updates since. Checksums tell
// a damaged row from a sound one, because Yjs may read garbage as a different document.
import { crc32 } from "node:zlib";
import * as Y from "yjs";
import type { Database } from "../db/database.ts";

type Stored = { payload: Uint8Array; checksum: number };

/** A stored document that cannot be read. It is left as it is. */
export class DamagedDocument extends Error {
  override name = "DamagedDocument";
}

export class DocumentStore {
  readonly #database: Database;
  readonly #sql;

  constructor(database: Database) {
    this.#database = database;
    this.#sql = prepare(database);
  }

  exists(noteId: string): boolean {
    return this.#sql.unsettled.get(noteId) !== undefined;
  }

  /** Brings the stored state into an empty document. Gives false if none is stored. */
  load(noteId: string, document: Y.Doc): boolean {
    const snapshot = this.#sql.snapshot.get(noteId);
    if (!snapshot) return false;
    const stored = [snapshot, ...this.#sql.updates.all(noteId)];
    try {
      for (const { payload, checksum } of stored) {
        if (crc32(payload) !== checksum) throw new Error("checksum mismatch");
        Y.applyUpdate(document, payload);
      }
      if (document.store.pendingStructs || document.store.pendingDs) throw new Error("an update is missing");
    } catch (error) {
      throw new DamagedDocument(`document of note ${noteId}: ${(error as Error).message}`);
    }
    return true;
  }

  create(noteId: string, document: Y.Doc) {
    const snapshot = Y.encodeStateAsUpdate(document);
    this.#sql.create.run(noteId, snapshot, crc32(snapshot));
  }

  /** Makes an update durable. The note's text follows later, so the document is unsettled. */
  append(noteId: string, update: Uint8Array) {
    this.#database.transaction(() => {
      this.#sql.append.run(noteId, update, crc32(update));
      this.#sql.mark.run(1, noteId, 1);
    });
  }

  markSettled(noteId: string) {
    this.#sql.mark.run(0, noteId, 0);
  }

  isUnsettled(noteId: string): boolean {
    return this.#sql.unsettled.get(noteId)?.unsettled === 1;
  }

  /** Notes whose text has yet to follow their document, from above an id. */
  listUnsettled(after: string, limit: number): string[] {
    return this.#sql.listUnsettled.all(after, limit).map((row) => row.note_id);
  }

  /** Replaces snapshot and log by the document's state, once the log is at least so long. */
  compact(noteId: string, document: Y.Doc, atLeast: number) {
    if (this.#sql.countUpdates.get(noteId)!.count < Math.max(1, atLeast)) return;
    const snapshot = Y.encodeStateAsUpdate(document);
    this.#database.transaction(() => {
      this.#sql.replace.run(snapshot, crc32(snapshot), noteId);
      this.#sql.clear.run(noteId);
    });
  }

  delete(noteId: string) {
    this.#sql.delete.run(noteId);
  }
}

function prepare(database: Database) {
  return {
    snapshot: database.statement<Stored>(
      "collab_snapshot",
      "SELECT snapshot AS payload, checksum FROM collab_documents WHERE note_id = ?",
    ),
    updates: database.statement<Stored>(
      "collab_updates",
      "SELECT payload, checksum FROM collab_updates WHERE note_id = ? ORDER BY seq",
    ),
    create: database.statement(
      "collab_create",
      "INSERT INTO collab_documents (note_id, snapshot, checksum) VALUES (?, ?, ?)",
    ),
    append: database.statement(
      "collab_append",
      "INSERT INTO collab_updates (note_id, payload, checksum) VALUES (?, ?, ?)",
    ),
    mark: database.statement(
      "collab_mark",
      "UPDATE collab_documents SET unsettled = ? WHERE note_id = ? AND unsettled <> ?",
    ),
    unsettled: database.statement<{ unsettled: 0 | 1 }>(
      "collab_unsettled",
      "SELECT unsettled FROM collab_documents WHERE note_id = ?",
    ),
    listUnsettled: database.statement<{ note_id: string }>(
      "collab_list_unsettled",
      "SELECT note_id FROM collab_documents WHERE unsettled = 1 AND note_id > ? ORDER BY note_id LIMIT ?",
    ),
    countUpdates: database.statement<{ count: number }>(
      "collab_count",
      "SELECT COUNT(*) AS count FROM collab_updates WHERE note_id = ?",
    ),
    replace: database.statement(
      "collab_replace",
      "UPDATE collab_documents SET snapshot = ?, checksum = ? WHERE note_id = ?",
    ),
    clear: database.statement("collab_clear", "DELETE FROM collab_updates WHERE note_id = ?"),
    delete: database.statement("collab_delete", "DELETE FROM collab_documents WHERE note_id = ?"),
  };
}
