// What comes next, from Python, for a series on a board: two calls at a time, and of each series only the newest request
// waits. Without Python the board says that the forecast is missing, and why.
import { type AiClient, statusName } from "../ai/client.ts";
import { backgroundContext } from "../context.ts";
import type { Metrics } from "../metrics.ts";
import type { Show, Shown } from "./live.ts";
import type { BoardValue } from "./schemas.ts";
import { nameOf } from "./telemetry.ts";

type Dependencies = { ai: Pick<AiClient, "forecast">; metrics: Metrics };
type Forecast = BoardValue & { type: "forecast" };
type Missing = Extract<Forecast, { status: "missing" }>["reason"];

const AT_A_TIME = 2;
/** What Python needs at least. */
const SHORTEST = 8;
const HORIZON = 10;
const COVERAGE = 0.9;

export class Forecasts {
  readonly #deps: Dependencies;
  readonly #waiting = new Map<string, { shown: Shown; show: Show }>();
  readonly #running = new Set<string>();
  readonly #stop = new AbortController();

  constructor(deps: Dependencies) {
    this.#deps = deps;
  }

  request(shown: Shown, show: Show) {
    this.#waiting.set(`${shown.board.board}:${nameOf(shown.key)}`, { shown, show });
    this.#next();
  }

  stop() {
    this.#stop.abort();
  }

  #next() {
    for (const [name, { shown, show }] of this.#waiting) {
      if (this.#running.size >= AT_A_TIME || this.#stop.signal.aborted) return;
      if (this.#running.has(name)) continue;
      this.#waiting.delete(name);
      this.#running.add(name);
      void this.#forecast(shown).then((value) => {
        this.#running.delete(name);
        if (this.#stop.signal.aborted) return;
        this.#deps.metrics.boardForecasts.inc({ outcome: value.status === "fresh" ? "fresh" : value.reason });
        show(shown.board.board, `${nameOf(shown.key)}/forecast`, value);
        this.#next();
      });
    }
  }

  async #forecast({ board, key, windows }: Shown): Promise<Forecast> {
    const missing = (reason: Missing): Forecast => ({ type: "forecast", ...key, status: "missing", reason });
    if (windows.length < Math.max(SHORTEST, 2 * board.season)) return missing("too_short");
    const [before, last] = [windows.at(-2)!, windows.at(-1)!];
    const series = {
      values: windows.map(({ mean }) => mean),
      // With them Python says whether a window is missing between.
      times: windows.map(({ start }) => start / 1000),
      seasonLength: board.season,
    };
    const horizon = Math.max(HORIZON, board.season);
    try {
      const request = { series, horizon, coverage: COVERAGE };
      const { points, model } = await this.#deps.ai.forecast(request, backgroundContext(), this.#stop.signal);
      const step_ms = last.start - before.start;
      const shown = points.map(({ value, low, high }) => ({ value, low, high }));
      return { type: "forecast", ...key, status: "fresh", start: last.start + step_ms, step_ms, model, points: shown };
    } catch (error) {
      const status = statusName(error);
      if (status === "INVALID_ARGUMENT") return missing("irregular");
      return missing(status === "DEADLINE_EXCEEDED" ? "too_late" : "unavailable");
    }
  }
}
