// Copies Python's catalogue once after the start, page by page; while Python is away it tries on.
import { setTimeout as delay } from "node:timers/promises";
import { type AiClient, statusName } from "../ai/client.ts";
import { backgroundContext } from "../context.ts";
import type { Log } from "../log.ts";
import type { Film, FilmList } from "./films.ts";

const PAGE_SIZE = 1_000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;

type Dependencies = { ai: Pick<AiClient, "listItems">; films: FilmList; log: Log };

export class CatalogueSync {
  readonly #deps: Dependencies;
  readonly #stop = new AbortController();

  constructor(deps: Dependencies) {
    this.#deps = deps;
  }

  start() {
    void this.#run();
  }

  stop() {
    this.#stop.abort();
  }

  async #run() {
    const { signal } = this.#stop;
    for (let pause = FIRST_PAUSE_MS; !signal.aborted; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
      try {
        const pages = await this.#fetch();
        if (signal.aborted) return;
        this.#deps.films.replace(pages);
        return this.#deps.log.info({ films: this.#deps.films.size }, "catalogue copied");
      } catch (error) {
        if (signal.aborted) return;
        const status = statusName(error);
        if (status === "UNKNOWN") this.#deps.log.warn({ err: error }, "the catalogue could not be copied");
        else this.#deps.log.debug({ status }, "the catalogue is not there yet");
      }
      await delay(pause, undefined, { signal, ref: false }).catch(() => {});
    }
  }

  async #fetch(): Promise<Film[][]> {
    const pages: Film[][] = [];
    const context = backgroundContext();
    let pageToken = "";
    do {
      const request = { pageSize: PAGE_SIZE, pageToken };
      const { items, nextPageToken } = await this.#deps.ai.listItems(request, context, this.#stop.signal);
      pages.push(items.map(({ id, title, year, genres, likes }) => ({ id, title, year: year || null, genres, likes })));
      pageToken = nextPageToken;
    } while (pageToken !== "");
    return pages;
  }
}
