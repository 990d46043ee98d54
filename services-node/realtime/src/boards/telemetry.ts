// Takes points: on disk first, then into their windows. Points may come in any order and more than once; what became of
// each is counted. After a restart the windows are made again from the points, so what was accepted still counts.
import type { GroupCommit } from "../db/group.ts";
import type { Metrics } from "../metrics.ts";
import { Problem } from "../problems.ts";
import type { BoardRepository, SeriesKey } from "./repository.ts";
import type { Counts } from "./schemas.ts";
import { add, closeAll, isLate, newSeries, openWindows, type Point, type Series, type Window } from "./windows.ts";

export type TelemetryPoint = SeriesKey & Point;
/** `again`: they had closed before a restart. */
export type Closed = { key: SeriesKey; windows: Window[]; again: boolean };
type Entry = {
  key: SeriesKey;
  series: Series;
  /** What the watermark will be once everything that was accepted is in its windows. */
  promised: number;
  inserted: number;
  touched: number;
};

type Dependencies = {
  boards: BoardRepository;
  group: GroupCommit;
  metrics: Metrics;
  config: { latenessMs: number; idleMs: number; series: number; points: number };
};

/** A point further ahead would close everything that its series has open. */
const AHEAD_MS = 60_000;
const PRUNE_EVERY = 500;
/** Of each series read at the start: more than its forecasts look at. */
const READ_AGAIN = 2_000;

export class Telemetry {
  readonly #deps: Dependencies;
  readonly #entries = new Map<string, Entry>();
  #timer: NodeJS.Timeout | undefined;
  #closed: (closed: Closed) => void = () => {};

  constructor(deps: Dependencies) {
    this.#deps = deps;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Hears of windows of a series that closed, oldest first. */
  onClosed(listener: (closed: Closed) => void) {
    this.#closed = listener;
  }

  /** Reads the newest points of every series, so that windows go on where they were. */
  start() {
    const { boards, config } = this.#deps;
    for (const key of boards.series(config.series)) {
      const entry = this.#entry(key);
      const windows = boards.newest(key, READ_AGAIN).flatMap((point) => add(entry.series, point));
      this.#closed({ key, windows, again: true });
    }
    this.#timer = setInterval(() => this.#closeIdle(), Math.min(1_000, config.idleMs)).unref();
  }

  stop() {
    clearInterval(this.#timer);
  }

  /** Takes a batch of somebody's devices; all of it or, where one device is another's, nothing. */
  async take(points: TelemetryPoint[], subject: string) {
    const { group, boards, metrics } = this.#deps;
    const counts: Counts = { accepted: 0, late: 0, duplicate: 0, early: 0 };
    const latest = Date.now() + AHEAD_MS;
    const accepted = await group.run(() => {
      for (const device of new Set(points.map((point) => point.device))) boards.claim(device, subject);
      this.#requireRoom(points);
      const stored = points.filter((point) => this.#store(point, counts, latest));
      // Batches that are committed together know of each other.
      for (const point of stored) this.#promise(point);
      return stored;
    });
    this.#apply(accepted);
    for (const [outcome, count] of Object.entries(counts)) metrics.telemetryPoints.inc({ outcome }, count);
    return { counts, accepted };
  }

  #store(point: TelemetryPoint, counts: Counts, latest: number): boolean {
    const { boards } = this.#deps;
    const outcome =
      point.time > latest
        ? "early"
        : this.#isLate(point)
          ? "late"
          : boards.insert(point, point)
            ? "accepted"
            : "duplicate";
    counts[outcome] += 1;
    return outcome === "accepted";
  }

  #isLate(point: TelemetryPoint): boolean {
    const entry = this.#entries.get(nameOf(point));
    return entry !== undefined && isLate(Math.max(entry.series.watermark, entry.promised), point.time);
  }

  #promise(point: TelemetryPoint) {
    const entry = this.#entry(point);
    entry.promised = Math.max(entry.promised, point.time - this.#deps.config.latenessMs);
    entry.touched = performance.now();
  }

  /** A batch's own points do not make each other late: its windows close after all of it is in. */
  #apply(points: TelemetryPoint[]) {
    const bySeries = Map.groupBy(points, nameOf);
    for (const some of bySeries.values()) {
      const entry = this.#entry(some[0]!);
      const windows = some.sort((a, b) => a.time - b.time).flatMap((point) => add(entry.series, point));
      entry.inserted += some.length;
      if (entry.inserted >= PRUNE_EVERY) {
        entry.inserted = 0;
        this.#deps.boards.prune(entry.key, this.#deps.config.points);
      }
      this.#closed({ key: entry.key, windows, again: false });
    }
  }

  #closeIdle() {
    const since = performance.now() - this.#deps.config.idleMs;
    for (const { key, series, touched } of this.#entries.values()) {
      if (touched < since && openWindows(series) > 0) this.#closed({ key, windows: closeAll(series), again: false });
    }
  }

  #requireRoom(points: TelemetryPoint[]) {
    const fresh = new Set(points.map(nameOf).filter((name) => !this.#entries.has(name)));
    const most = this.#deps.config.series;
    if (this.#entries.size + fresh.size <= most) return;
    throw new Problem("limit_exceeded", `There may be ${most} series of a device and a metric; no new one fits.`);
  }

  #entry({ device, metric }: SeriesKey): Entry {
    const name = nameOf({ device, metric });
    let entry = this.#entries.get(name);
    if (!entry) {
      const series = newSeries(this.#deps.config.latenessMs);
      const now = performance.now();
      entry = { key: { device, metric }, series, promised: series.watermark, inserted: 0, touched: now };
      this.#entries.set(name, entry);
    }
    return entry;
  }
}

export function nameOf({ device, metric }: SeriesKey): string {
  return `${device}/${metric}`;
}
