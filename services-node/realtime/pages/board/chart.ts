// A small line chart in SVG: what was measured, and ahead of it the forecast with its band.

export type Point = { time: number; value: number };
export type Ahead = { time: number; value: number; low: number; high: number };

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, MARGIN] = [100, 40, 2];

/** Draws the chart anew. `label` says in words what it shows. */
export function draw(svg: SVGSVGElement, points: readonly Point[], ahead: readonly Ahead[], label: string) {
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  const times = [...points, ...ahead].map(({ time }) => time);
  const values = [...points.map(({ value }) => value), ...ahead.flatMap(({ low, high }) => [low, high])];
  const x = scale(Math.min(...times), Math.max(...times), 0, WIDTH);
  const y = scale(Math.min(...values), Math.max(...values), HEIGHT - MARGIN, MARGIN);
  const line = (some: readonly Point[]) => some.map(({ time, value }) => `${x(time)},${y(value)}`).join(" ");
  const band = [
    ...ahead.map(({ time, high }) => ({ time, value: high })),
    ...ahead.map(({ time, low }) => ({ time, value: low })).reverse(),
  ];
  svg.replaceChildren(
    shape("polygon", "chart-band", line(band)),
    shape("polyline", "chart-line", line(points)),
    shape("polyline", "chart-ahead", line(ahead)),
  );
}

export function newChart(): SVGSVGElement {
  return document.createElementNS(SVG, "svg") as SVGSVGElement;
}

function shape(name: string, kind: string, points: string) {
  const made = document.createElementNS(SVG, name);
  made.setAttribute("class", kind);
  made.setAttribute("points", points);
  return made;
}

/** From one range to another; the middle where all is the same. */
function scale(from: number, to: number, low: number, high: number) {
  return (value: number) => round(from === to ? (low + high) / 2 : low + ((value - from) / (to - from)) * (high - low));
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
