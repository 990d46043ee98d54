// A verdict on each closed window of a series on a board, from Python's stream of verdicts. A new stream is first given
// the windows that are remembered, so that it need not learn anew; what it says about those is not shown again. Without
// Python the board says that verdicts are missing.
import type { DetectAnomaliesResponse } from "@hybrid/contracts";
import { type AiClient, type AnomalyStream, statusName } from "../ai/client.ts";
import { backgroundContext } from "../context.ts";
import type { Metrics } from "../metrics.ts";
import type { Show, Shown } from "./live.ts";
import type { BoardValue, Judged } from "./schemas.ts";
import { nameOf } from "./telemetry.ts";
import type { Window } from "./windows.ts";

type Dependencies = { ai: Pick<AiClient, "detectAnomalies">; metrics: Metrics };
type Feed = {
  stream: AnomalyStream | undefined;
  control: AbortController;
  /** Windows that were sent and have no verdict yet; undefined: one whose verdict is not shown. */
  unjudged: (Window | undefined)[];
  /** Windows that closed while the stream was opened. */
  waiting: Window[];
  last: Judged | null;
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

  /** Lets the streams end when what they were given is judged. The next windows open others. */
  rest() {
    for (const { stream, control } of this.#feeds.values()) {
      if (stream) stream.end();
      else control.abort();
    }
    this.#feeds.clear();
  }

  stop() {
    this.#stopped = true;
    for (const { control } of this.#feeds.values()) control.abort();
  }

  async #open(shown: Shown, fresh: Window[], show: Show) {
    const name = nameIn(shown);
    const feed: Feed = { stream: undefined, control: new AbortController(), unjudged: [], waiting: [], last: null };
    this.#feeds.set(name, feed);
    try {
      feed.stream = await this.#deps.ai.detectAnomalies(backgroundContext(), feed.control.signal);
    } catch {
      return this.#ended(shown, feed, show, "UNKNOWN");
    }
    const { stream } = feed;
    stream.on("data", (verdict: DetectAnomaliesResponse) => this.#verdict(shown, feed, show, verdict));
    stream.on("error", () => {});
    stream.on("status", (status) => this.#ended(shown, feed, show, statusName(status)));
    // What came while this was opened waits after it.
    const known = shown.windows.slice(0, -fresh.length).map((window) => ({ window, show: false }));
    const all = [...known, ...fresh.concat(feed.waiting).map((window) => ({ window, show: true }))];
    for (const [index, one] of all.entries()) {
      stream.write({ value: one.window.mean, ...(index === 0 && { seasonLength: shown.board.season }) });
      feed.unjudged.push(one.show ? one.window : undefined);
    }
  }

  #verdict(shown: Shown, feed: Feed, show: Show, { verdict, expected, score }: DetectAnomaliesResponse) {
    const window = feed.unjudged.shift();
    const status = STATUS[verdict as keyof typeof STATUS];
    if (!window || !status) return;
    this.#deps.metrics.boardVerdicts.inc({ verdict: status });
    const judged: Judged = { start: window.start, value: window.mean, expected, score };
    if (status === "anomaly") feed.last = judged;
    const value: BoardValue = { type: "anomaly", ...shown.key, status, ...judged, last_anomaly: feed.last };
    show(shown.board.board, `${nameOf(shown.key)}/anomaly`, value);
  }

  #send(shown: Shown, feed: Feed, windows: Window[]) {
    if (feed.unjudged.length + feed.waiting.length + windows.length > MOST_UNJUDGED) {
      this.#pausedUntil.set(nameIn(shown), performance.now() + PAUSE_MS);
      return feed.control.abort();
    }
    if (!feed.stream) return void feed.waiting.push(...windows);
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
