// A verdict on each closed window of a series on a board, from Python's stream of verdicts. A new stream is first given
// the windows that are remembered, so that it need not learn anew; what it says about those is not shown again. Without
// Python the board says that verdicts are missing.
import { type AiClient, type AnomalyStream, statusName } from "../ai/client.ts";
import { backgroundContext } from "../context.ts";
import type { Metrics } from "../metrics.ts";
import type { Show, Shown } from "./live.ts";
import type { BoardValue } from "./schemas.ts";
import { nameOf } from "./telemetry.ts";
import type { Window } from "./windows.ts";

type Dependencies = { ai: Pick<AiClient, "detectAnomalies">; metrics: Metrics };
type Feed = {
  stream: AnomalyStream | undefined;
  control: AbortController;
  /** Windows that were sent and have no verdict yet; undefined: one whose verdict is not shown. */
  unjudged: (Window | undefined)[];
};

const STREAMS = 64;
/** Python is that far behind: begin anew. */
const MOST_UNJUDGED = 1_000;
const PAUSE_MS = 2_000;
const STATUS = { 1: "learning", 2: "normal", 3: "anomaly" } as const;

export class Anomalies {
  readonly #deps: Dependencies;
  readonly #feeds = new Map<string, Feed>();
  readonly #pausedUntil = new Map<string, number>();
  #stopped = false;

  constructor(deps: Dependencies) {
    this.#deps = deps;
  }

  /** Has the newest windows of a series judged; `fresh` are the last of shown.windows. */
  judge(shown: Shown, fresh: Window[], show: Show) {
    const name = nameIn(shown);
    const feed = this.#feeds.get(name);
    if (feed) return this.#send(shown, feed, fresh);
    if (this.#stopped || this.#feeds.size >= STREAMS || (this.#pausedUntil.get(name) ?? 0) > performance.now()) return;
    void this.#open(shown, fresh, show);
  }

  /** The board is another one now. */
  forget(board: string) {
    for (const [name, { control }] of this.#feeds) if (name.startsWith(`${board}:`)) control.abort();
  }

  stop() {
    this.#stopped = true;
    for (const { control } of this.#feeds.values()) control.abort();
  }

  async #open(shown: Shown, fresh: Window[], show: Show) {
    const name = nameIn(shown);
    const feed: Feed = { stream: undefined, control: new AbortController(), unjudged: [] };
    this.#feeds.set(name, feed);
    try {
      feed.stream = await this.#deps.ai.detectAnomalies(backgroundContext(), feed.control.signal);
    } catch {
      return this.#ended(shown, feed, show, "UNKNOWN");
    }
    const { stream } = feed;
    stream.on("data", ({ verdict, expected, score }: { verdict: number; expected: number; score: number }) => {
      const window = feed.unjudged.shift();
      const status = STATUS[verdict as keyof typeof STATUS];
      if (!window || !status) return;
      this.#deps.metrics.boardVerdicts.inc({ verdict: status });
      const { start, mean: value } = window;
      const shownValue: BoardValue = { type: "anomaly", ...shown.key, status, start, value, expected, score };
      show(shown.board.board, `${nameOf(shown.key)}/anomaly`, shownValue);
    });
    stream.on("error", () => {});
    stream.on("status", (status) => this.#ended(shown, feed, show, statusName(status)));
    const known = shown.windows.slice(0, -fresh.length);
    stream.write({ value: (known[0] ?? fresh[0]!).mean, seasonLength: shown.board.season });
    feed.unjudged.push(known.length > 0 ? undefined : fresh[0]);
    for (const { mean } of known.slice(1)) {
      stream.write({ value: mean });
      feed.unjudged.push(undefined);
    }
    this.#send(shown, feed, known.length > 0 ? fresh : fresh.slice(1));
  }

  #send(shown: Shown, feed: Feed, windows: Window[]) {
    // Not open yet: these come with what is remembered then, or after the next pause.
    if (!feed.stream) return;
    if (feed.unjudged.length + windows.length > MOST_UNJUDGED) {
      this.#pausedUntil.set(nameIn(shown), performance.now() + PAUSE_MS);
      return feed.control.abort();
    }
    for (const window of windows) {
      feed.stream.write({ value: window.mean });
      feed.unjudged.push(window);
    }
  }

  #ended(shown: Shown, feed: Feed, show: Show, status: string) {
    const name = nameIn(shown);
    if (this.#feeds.get(name) === feed) this.#feeds.delete(name);
    if (this.#stopped || feed.control.signal.aborted) return;
    const owed = feed.unjudged.some((window) => window !== undefined);
    // A stream that only was silent for long is opened again when there is something to judge.
    if (!owed && status !== "UNAVAILABLE") return;
    this.#pausedUntil.set(name, performance.now() + PAUSE_MS);
    const value: BoardValue = { type: "anomaly", ...shown.key, status: "missing", reason: "unavailable" };
    show(shown.board.board, `${nameOf(shown.key)}/anomaly`, value);
  }
}

function nameIn({ board, key }: Shown): string {
  return `${board.board}:${nameOf(key)}`;
}
