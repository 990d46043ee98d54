// Windows of event time, without a clock: any order of points within the lateness gives the same windows.
import assert from "node:assert/strict";
import { test } from "node:test";
import { add, closeAll, isLate, newSeries, openWindows, type Point, type Window } from "../src/boards/windows.ts";
import { PASSENGERS } from "./passengers.ts";

/** Four points a second, from a real series. */
const points: Point[] = PASSENGERS.map((value, index) => ({ time: index * 250, value }));

function windowsOf(some: Point[], latenessMs: number): Window[] {
  const series = newSeries(latenessMs);
  const closed = some.flatMap((point) => (isLate(series.watermark, point.time) ? [] : add(series, point)));
  const all = [...closed, ...closeAll(series)];
  assert.equal(openWindows(series), 0);
  return all;
}

test("a window is what its points come to", () => {
  const [first] = windowsOf(points, 0);
  assert.deepEqual(first, { size: 1000, start: 0, count: 4, min: 112, max: 132, mean: (112 + 118 + 132 + 129) / 4 });
});

test("seconds and minutes count the same points", () => {
  const all = windowsOf(points, 2_000);
  const seconds = all.filter(({ size }) => size === 1_000);
  const minutes = all.filter(({ size }) => size === 60_000);
  assert.deepEqual([seconds.length, minutes.length], [36, 1]);
  const count = seconds.reduce((sum, one) => sum + one.count, 0);
  assert.equal(count, minutes[0]!.count);
  const mean = seconds.reduce((sum, one) => sum + one.mean * one.count, 0) / count;
  assert.ok(Math.abs(mean - minutes[0]!.mean) < 1e-9);
  assert.deepEqual([minutes[0]!.min, minutes[0]!.max], [104, 622]);
});

test("points out of order, within the lateness, give the same windows", () => {
  const sorted = windowsOf(points, 2_000).sort(byStart);
  // Each block of eight points (2 s) backwards, and then pairs exchanged.
  const blocks = Array.from({ length: points.length / 8 }, (_, n) => points.slice(8 * n, 8 * n + 8).reverse()).flat();
  const swapped = points.flatMap((_, n) => (n % 2 === 0 ? [points[n + 1]!, points[n]!] : []));
  for (const some of [blocks, swapped]) {
    const windows = windowsOf(some, 2_000).sort(byStart);
    assert.equal(windows.length, sorted.length);
    for (const [index, window] of windows.entries()) {
      const { mean, ...rest } = window;
      const { mean: expected, ...others } = sorted[index]!;
      assert.deepEqual(rest, others);
      assert.ok(Math.abs(mean - expected) < 1e-9);
    }
  }
});

test("a window closes when the newest point is the lateness past its end, and never changes after it", () => {
  const series = newSeries(1_000);
  const at = (time: number, value = 1) => add(series, { time, value }).map(({ start }) => start);
  assert.deepEqual(at(0), []);
  assert.deepEqual(at(1_999), []);
  assert.deepEqual(at(2_000), [0]);
  assert.equal(isLate(series.watermark, 999), true);
  assert.equal(isLate(series.watermark, 1_000), false);
  assert.deepEqual(at(1_000, 5), []);
  // A jump ahead closes all between, oldest first.
  assert.deepEqual(at(90_000), [1_000, 2_000, 0]);
});

test("times before 1970 have windows like others", () => {
  const [window] = windowsOf([{ time: -1, value: 3 }], 0);
  assert.deepEqual([window!.start, window!.count, window!.mean], [-1_000, 1, 3]);
});

test("a mean of many large values beside small ones is right", () => {
  const some = Array.from({ length: 1_000 }, (_, n) => ({ time: n, value: n % 2 === 0 ? 1e12 : 1 }));
  const [window] = windowsOf(some, 0);
  assert.ok(Math.abs(window!.mean - (1e12 + 1) / 2) < 1);
});

function byStart(a: Window, b: Window): number {
  return a.size - b.size || a.start - b.start;
}
