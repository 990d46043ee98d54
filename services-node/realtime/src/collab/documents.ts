// Collaborative documents: Hocuspocus with storage that keeps what it acknowledged. Every
// update is in the log before its acknowledgement and its broadcast leave, a failed load or
// write closes the document instead of storing it, and text and note follow each other.
import { type Document, Hocuspocus } from "@hocuspocus/server";
import * as Y from "yjs";
import { backgroundContext, type RequestContext } from "../context.ts";
import type { Database } from "../db/database.ts";
import type { Identity } from "../identity.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import type { RelatedPassages } from "./related.ts";
import type { DocumentStore } from "./store.ts";
import { noteIdOf, plainText, replaceText, TEXT_FIELD } from "./text.ts";

export type SharedNote = { text: string; owner: string; readers: string[] };
/** What a connection carries from its upgrade request. */
export type CollabContext = { identity: Identity };

/** The notes, as far as documents need them. */
export type NotePort = {
  find(id: string): SharedNote | undefined;
  replaceText(id: string, text: string, context: RequestContext): unknown;
};

export type DocumentsDependencies = {
  database: Database;
  store: DocumentStore;
  notes: NotePort;
  related: RelatedPassages;
  log: Log;
  metrics: Metrics;
  config: { settleMs: number };
};

/** Why a connection to a document is refused or closed; also what the client is told. */
export const REFUSAL = {
  notFound: "not-found",
  unavailable: "document-unavailable",
  damaged: "document-damaged",
  noteGone: { code: 4404, reason: "note-deleted" },
  withdrawn: { code: 4403, reason: "access-withdrawn" },
} as const;

type Live = { document: Document; lastEdit: number };

const MAX_TEXT = 100_000;
const COMPACT_AFTER = 64;
/** Uninterrupted typing settles at least this many quiet times after it began. */
const MAX_SETTLE_FACTOR = 5;
const LOCAL = { source: "local" } as const;
const EVERYBODY = "*";

export class CollabDocuments {
  readonly hocuspocus: Hocuspocus<CollabContext>;
  readonly #deps: DocumentsDependencies;
  readonly #live = new Map<string, Live>();
  /** Documents whose memory is not what is stored; they are only ever dropped. */
  readonly #condemned = new WeakSet<Document>();

  constructor(deps: DocumentsDependencies) {
    this.#deps = deps;
    const { settleMs } = deps.config;
    this.hocuspocus = new Hocuspocus<CollabContext>({
      quiet: true,
      debounce: settleMs,
      maxDebounce: settleMs * MAX_SETTLE_FACTOR,
      onAuthenticate: async (event) => this.#authorize(event.documentName, event.context, event.connectionConfig),
      onLoadDocument: async (event) => this.#load(event.document),
      onStoreDocument: async (event) => this.#settled(event.document),
    });
  }

  get size(): number {
    return this.#live.size;
  }

  /** Brings notes up to date whose last edits had not settled when the process ended. */
  async recover() {
    let after = "";
    for (;;) {
      const ids = this.#deps.store.listUnsettled(after, 50);
      if (ids.length === 0) return;
      for (const id of ids) this.flush(id);
      after = ids.at(-1)!;
      await new Promise(setImmediate);
    }
  }

  /** Lets the note follow its document at once. */
  flush(noteId: string) {
    if (!this.#deps.store.isUnsettled(noteId)) return;
    this.#withDocument(noteId, (document) => this.#settle(noteId, document));
  }

  /** Lets the document follow its note, within the transaction that wrote the note. */
  replaced(noteId: string, text: string) {
    const live = this.#live.get(noteId)?.document;
    if (live) this.#deps.database.afterRollback(() => this.#condemn(live));
    this.#withDocument(noteId, (document) => {
      replaceText(document, text, LOCAL);
      this.#deps.store.markSettled(noteId);
    });
  }

  /** Removes the document, within the transaction that deleted the note. */
  removed(noteId: string) {
    this.#deps.store.delete(noteId);
    this.#deps.database.afterCommit(() => this.#closeAll(noteId, REFUSAL.noteGone));
  }

  /** Applies the note's current readers to the connections that are open. */
  recheck(noteId: string) {
    const live = this.#live.get(noteId);
    const note = this.#deps.notes.find(noteId);
    if (!live || !note) return;
    for (const connection of live.document.getConnections()) {
      const right = rightOf(note, connection.context.identity.subject);
      if (right === "none") connection.close(REFUSAL.withdrawn);
      else connection.readOnly = right === "read";
    }
  }

  /** Stores everything, before the process ends. */
  settleAll() {
    for (const [noteId, { document }] of this.#live) {
      if (!this.#condemned.has(document)) this.#settle(noteId, document);
    }
  }

  #authorize(documentName: string, context: CollabContext, connection: { readOnly: boolean }) {
    const id = noteIdOf(documentName);
    const note = id === undefined ? undefined : this.#deps.notes.find(id);
    const right = note ? rightOf(note, context.identity.subject) : "none";
    if (id === undefined || right === "none") throw this.#refuse(REFUSAL.notFound);
    const live = this.#live.get(id);
    if (live && this.#condemned.has(live.document)) throw this.#refuse(REFUSAL.unavailable);
    connection.readOnly = right === "read";
  }

  /** Runs in one turn of the event loop, so that no write to the note comes in between. */
  #load(document: Document) {
    const { store, notes, log, metrics } = this.#deps;
    const noteId = noteIdOf(document.name)!;
    const note = notes.find(noteId);
    if (!note) throw this.#refuseLoad(document, REFUSAL.notFound);
    try {
      if (!store.load(noteId, document)) {
        document.getText(TEXT_FIELD).insert(0, note.text);
        store.create(noteId, document);
      }
    } catch (error) {
      this.#condemned.add(document);
      metrics.collabFailures.inc({ operation: "load" });
      log.error({ note_id: noteId, reason: (error as Error).message }, "document not loaded; it stays as it is");
      throw this.#refuseLoad(document, REFUSAL.damaged);
    }
    this.#watch(noteId, document);
    // A write to the note may have come while the document could not be read.
    if (!store.isUnsettled(noteId)) this.replaced(noteId, note.text);
  }

  #watch(noteId: string, document: Document) {
    const live: Live = { document, lastEdit: 0 };
    this.#live.set(noteId, live);
    document.getText(TEXT_FIELD).observe((event) => {
      live.lastEdit = event.delta.find((step) => step.retain !== undefined)?.retain ?? 0;
    });
    document.on("update", (update: Uint8Array) => this.#append(noteId, document, update));
    document.on("destroy", () => {
      if (this.#live.get(noteId) === live) this.#live.delete(noteId);
    });
  }

  /** Called by Yjs while it applies an update: before the acknowledgement and the broadcast. */
  #append(noteId: string, document: Document, update: Uint8Array) {
    if (this.#condemned.has(document)) return;
    try {
      this.#deps.store.append(noteId, update);
      this.#deps.metrics.collabUpdates.inc();
    } catch (error) {
      this.#deps.metrics.collabFailures.inc({ operation: "append" });
      this.#deps.log.error({ note_id: noteId, reason: (error as Error).message }, "update not stored");
      this.#condemn(document);
    }
  }

  /** Hocuspocus calls this when a document was quiet for a while, and when its last client left. */
  #settled(document: Document) {
    if (this.#condemned.has(document)) return;
    const noteId = noteIdOf(document.name)!;
    this.#settle(noteId, document);
    const live = this.#live.get(noteId);
    if (live) this.#deps.related.refresh(document, noteId, live.lastEdit);
  }

  #settle(noteId: string, document: Y.Doc) {
    const { database, store, notes, metrics } = this.#deps;
    const text = plainText(document);
    const fits = text.length <= MAX_TEXT || [...text].length <= MAX_TEXT;
    database.transaction(() => {
      if (fits && store.isUnsettled(noteId)) {
        notes.replaceText(noteId, text, backgroundContext());
        store.markSettled(noteId);
        metrics.collabSettled.inc();
      }
      store.compact(noteId, document, COMPACT_AFTER);
    });
    if (!fits) this.#tellTooLong(noteId);
  }

  #tellTooLong(noteId: string) {
    const message = { type: "error", code: "text_too_long", detail: `The note keeps at most ${MAX_TEXT} characters.` };
    this.#live.get(noteId)?.document.broadcastStateless(JSON.stringify(message));
  }

  /** Works on the live document, or on the stored one when nobody has it open. */
  #withDocument(noteId: string, work: (document: Y.Doc) => void) {
    const { store, log, metrics } = this.#deps;
    const live = this.#live.get(noteId)?.document;
    if (live) return this.#condemned.has(live) ? undefined : work(live);
    const document = new Y.Doc();
    try {
      if (!store.load(noteId, document)) return;
    } catch (error) {
      // The note stays usable; the document is refused when somebody opens it.
      metrics.collabFailures.inc({ operation: "load" });
      log.error({ note_id: noteId, reason: (error as Error).message }, "document not loaded; it stays as it is");
      return;
    }
    document.on("update", (update: Uint8Array) => store.append(noteId, update));
    work(document);
    document.destroy();
  }

  /**
   * Drops a document whose memory went ahead of the disk. Its sockets are closed here and
   * now: a closing socket sends nothing, so neither acknowledgement nor broadcast leaves.
   */
  #condemn(document: Document) {
    this.#condemned.add(document);
    this.#deps.related.forget(document);
    for (const connection of document.getConnections()) connection.webSocket.close(1011, REFUSAL.unavailable);
  }

  #closeAll(noteId: string, event: { code: number; reason: string }) {
    const document = this.#live.get(noteId)?.document;
    if (!document) return;
    this.#condemned.add(document);
    this.#deps.related.forget(document);
    for (const connection of document.getConnections()) connection.close(event);
  }

  /** Hocuspocus drops a document whose load failed without destroying it, so its timers would stay. */
  #refuseLoad(document: Document, reason: string) {
    document.destroy();
    return this.#refuse(reason);
  }

  #refuse(reason: string) {
    this.#deps.metrics.collabRefused.inc({ reason });
    // Hocuspocus sends `reason` to the client, and logs errors that have a message.
    return Object.assign(new Error(""), { reason });
  }
}

/** Owner and named readers edit together; what is open to everybody is read-only for everybody else. */
export function rightOf(note: SharedNote, subject: string): "edit" | "read" | "none" {
  if (note.owner === subject || note.readers.includes(subject)) return "edit";
  return note.readers.includes(EVERYBODY) ? "read" : "none";
}
