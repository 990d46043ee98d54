// Related passages: when an edit settles, Python is asked for passages that every present
// editor may read, and the answer is pushed to the editors. What became wrong while Python
// answered (an editor came, a right was withdrawn) is never pushed.

import type { Connection, Document } from "@hocuspocus/server";
import { SearchMode } from "@hybrid/contracts";
import type { AiClient } from "../ai/client.ts";
import { statusName } from "../ai/client.ts";
import { backgroundContext } from "../context.ts";
import type { Identity } from "../identity.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import { plainText } from "./text.ts";

export type RelatedDependencies = {
  ai: Pick<AiClient, "search">;
  /** Whether a subject may read an indexed document, as far as this service knows it. */
  mayRead: (documentId: string, subject: string) => boolean;
  log: Log;
  metrics: Metrics;
};

type Passage = { document_id: string; title: string; uri: string; passage: string; score: number };

const LIMIT = 5;
/** How often the search is repeated because somebody joined meanwhile. */
const ROUNDS = 3;
/** The text around the last edit is what the passages should relate to; models read no more. */
const QUERY_LENGTH = 1_000;

export class RelatedPassages {
  readonly #deps: RelatedDependencies;
  readonly #running = new Map<Document, AbortController>();

  constructor(deps: RelatedDependencies) {
    this.#deps = deps;
  }

  /** Starts a search for the document; a running one for it is superseded. */
  refresh(document: Document, noteId: string, lastEdit: number) {
    this.#running.get(document)?.abort();
    const run = new AbortController();
    this.#running.set(document, run);
    void this.#push(document, noteId, lastEdit, run.signal)
      .catch((error) => this.#failed(error, noteId, run.signal))
      .finally(() => {
        if (this.#running.get(document) === run) this.#running.delete(document);
      });
  }

  forget(document: Document) {
    this.#running.get(document)?.abort();
  }

  stop() {
    for (const run of this.#running.values()) run.abort();
  }

  async #push(document: Document, noteId: string, lastEdit: number, signal: AbortSignal) {
    const query = queryAround(plainText(document), lastEdit);
    if (query === "") return;
    const context = backgroundContext();
    for (let round = 0; round < ROUNDS; round += 1) {
      const asked = editorsOf(document);
      if (asked.length === 0) return;
      const request = { query, limit: LIMIT, mode: SearchMode.HYBRID, visibleTo: asked };
      const exclude = { excludeDocumentId: `notes/${noteId}` };
      const { results } = await this.#deps.ai.search({ ...request, ...exclude }, context, signal);
      if (signal.aborted) return;
      const present = editorsOf(document);
      if (!present.every((subject) => asked.includes(subject))) continue;
      const passages = results
        .filter((result) => present.every((subject) => this.#deps.mayRead(result.documentId, subject)))
        .map(({ documentId, title, uri, passage, score }) => ({ document_id: documentId, title, uri, passage, score }));
      return this.#send(document, passages);
    }
  }

  #send(document: Document, passages: Passage[]) {
    document.broadcastStateless(JSON.stringify({ type: "related", passages }), isEditor);
    this.#deps.metrics.relatedPushes.inc();
  }

  #failed(error: unknown, noteId: string, signal: AbortSignal) {
    if (signal.aborted) return;
    this.#deps.metrics.relatedFailures.inc();
    this.#deps.log.debug({ note_id: noteId, status: statusName(error) }, "no related passages");
  }
}

function editorsOf(document: Document): string[] {
  const editors = document.getConnections().filter(isEditor);
  return [...new Set(editors.map((connection) => (connection.context as { identity: Identity }).identity.subject))];
}

function isEditor(connection: Connection): boolean {
  return !connection.readOnly;
}

function queryAround(text: string, position: number): string {
  const start = Math.max(0, Math.min(position - QUERY_LENGTH / 2, text.length - QUERY_LENGTH));
  return text
    .slice(start, start + QUERY_LENGTH)
    .toWellFormed()
    .trim();
}
