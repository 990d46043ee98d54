// Points of one series into windows of event time. No clock and no input but the points: the same points in the same
// order give the same windows. A window closes when the newest point is so much (the lateness) past its end; what comes
// for a closed window is late, and left out, so a closed window never changes. (The Dataflow model's watermarks.)

export type Point = { time: number; value: number };

/** What the points of [start, start + size) come to; times in milliseconds since 1970. */
export type Window = { size: number; start: number; count: number; min: number; max: number; mean: number };

/** 1 s and 1 min; each is a multiple of the one before. */
export const SIZES = [1_000, 60_000] as const;

export type Series = {
  readonly latenessMs: number;
  /** Everything before this has closed. */
  watermark: number;
  newest: number;
  /** Open windows of each size, by start. */
  readonly open: ReadonlyMap<number, Map<number, Window>>;
};

export function newSeries(latenessMs: number): Series {
  const open = new Map(SIZES.map((size) => [size, new Map<number, Window>()]));
  return { latenessMs, watermark: Number.NEGATIVE_INFINITY, newest: Number.NEGATIVE_INFINITY, open };
}

/**
 * Whether a point comes too late. Its smallest window decides, so that all sizes count the same points.
 */
export function isLate(watermark: number, time: number): boolean {
  return startOf(time, SIZES[0]) + SIZES[0] <= watermark;
}

/** Takes a point that is not late; gives the windows that it closed, oldest first. */
export function add(series: Series, { time, value }: Point): Window[] {
  for (const size of SIZES) {
    const windows = series.open.get(size)!;
    const start = startOf(time, size);
    const window = windows.get(start);
    if (window) include(window, value);
    else windows.set(start, { size, start, count: 1, min: value, max: value, mean: value });
  }
  series.newest = Math.max(series.newest, time);
  return closeUntil(series, series.newest - series.latenessMs);
}

/** Closes everything: nothing came for so long that nothing is expected. */
export function closeAll(series: Series): Window[] {
  if (series.newest === Number.NEGATIVE_INFINITY) return [];
  return closeUntil(series, startOf(series.newest, SIZES.at(-1)!) + SIZES.at(-1)!);
}

/** How many windows are open. */
export function openWindows(series: Series): number {
  let count = 0;
  for (const windows of series.open.values()) count += windows.size;
  return count;
}

function closeUntil(series: Series, watermark: number): Window[] {
  if (watermark <= series.watermark) return [];
  series.watermark = watermark;
  const closed: Window[] = [];
  for (const windows of series.open.values()) {
    for (const window of windows.values()) {
      if (window.start + window.size > watermark) continue;
      windows.delete(window.start);
      closed.push(window);
    }
  }
  return closed.sort((a, b) => a.start + a.size - (b.start + b.size) || a.size - b.size);
}

/** The mean by Welford's update, which neither overflows nor loses small values beside large sums. */
function include(window: Window, value: number) {
  window.count += 1;
  window.min = Math.min(window.min, value);
  window.max = Math.max(window.max, value);
  window.mean += (value - window.mean) / window.count;
}

function startOf(time: number, size: number): number {
  return Math.floor(time / size) * size;
}
