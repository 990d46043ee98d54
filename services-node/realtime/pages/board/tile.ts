// One series on a board: its newest second in figures, the last minutes and the forecast as a line, and the verdict.
import { element } from "../shared/dom.ts";
import { type Ahead, draw, newChart, type Point } from "./chart.ts";
import type { BoardValue } from "./types.ts";

/** Seconds that are drawn. */
const DRAWN = 180;
const VERDICTS = {
  learning: "still learning what is usual",
  normal: "as usual",
  anomaly: "unusual",
  missing: "no verdict: Python is away",
};

export class Tile {
  readonly element: HTMLElement;
  readonly #name: string;
  readonly #value = element("span", { class: "value" }, "–");
  readonly #range = element("span", { class: "soft small" });
  readonly #verdict = element("p", { class: "verdict small", role: "status" });
  readonly #forecast = element("p", { class: "soft small" });
  readonly #chart = newChart();
  #points: Point[] = [];
  #ahead: Ahead[] = [];

  constructor(device: string, metric: string) {
    this.#name = `${device} ${metric}`;
    const title = element("h2", {}, device, element("span", { class: "soft" }, ` ${metric}`));
    const figures = element("p", {}, this.#value, " ", this.#range);
    this.#chart.toggleAttribute("hidden", true);
    this.element = element("section", { class: "tile" }, title, figures, this.#chart, this.#verdict, this.#forecast);
  }

  show(value: BoardValue) {
    if (value.type === "window") this.#window(value);
    else if (value.type === "forecast")
      this.#ahead = value.status === "fresh" ? this.#fresh(value) : this.#missing(value);
    else this.#judged(value);
    this.#draw();
  }

  #window({ seconds, start, mean, min, max, count }: Extract<BoardValue, { type: "window" }>) {
    if (seconds !== 1) {
      this.#range.textContent = `this minute ${figure(min)} to ${figure(max)}, ${count} readings`;
      return;
    }
    this.#value.textContent = figure(mean);
    // A value may come again, and late ones change the window that they belong to.
    this.#points = [...this.#points.filter(({ time }) => time !== start), { time: start, value: mean }];
    this.#points = this.#points.sort((a, b) => a.time - b.time).slice(-DRAWN);
  }

  #fresh({ start, step_ms: step, model, points }: Extract<BoardValue, { type: "forecast"; status: "fresh" }>): Ahead[] {
    this.#forecast.textContent = `Forecast: ${points.length} steps ahead by ${model}`;
    return points.map((point, index) => ({ time: start + index * step, ...point }));
  }

  #missing({ reason }: { reason: string }): Ahead[] {
    this.#forecast.textContent = `No forecast: ${reason.replaceAll("_", " ")}`;
    return [];
  }

  #judged(value: Extract<BoardValue, { type: "anomaly" }>) {
    const more =
      value.status === "anomaly" ? `: ${figure(value.value)}, where ${figure(value.expected)} was expected` : "";
    const words = VERDICTS[value.status] + more;
    // Said only when it changes, for those who hear the page.
    if (this.#verdict.textContent !== words) this.#verdict.textContent = words;
    this.#verdict.dataset.verdict = value.status;
    this.element.classList.toggle("anomaly", value.status === "anomaly");
  }

  #draw() {
    // One point is no line.
    this.#chart.toggleAttribute("hidden", this.#points.length < 2);
    if (this.#points.length < 2) return;
    const last = this.#points.at(-1)!;
    const ahead = this.#ahead.filter(({ time }) => time > last.time);
    const label = `${this.#name}: ${this.#points.length} seconds, last ${figure(last.value)}`;
    draw(this.#chart, this.#points, ahead, label);
  }
}

function figure(value: number): string {
  return value.toLocaleString(undefined, { maximumSignificantDigits: 4 });
}
