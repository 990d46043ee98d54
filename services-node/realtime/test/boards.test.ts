// Telemetry and boards: points are on disk before they are accepted, boards show their windows, forecasts and verdicts,
// and go on without Python.
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { ErrorCode } from "@hybrid/contracts/channels";
import { startGateway } from "./gateway.ts";
import { PASSENGERS } from "./passengers.ts";
import { eventually, startService, temporaryFolder } from "./support.ts";

const SERIES = { device: "airline", metric: "passengers" };

/** Months from..to of the series, a second each. */
const months = (from: number, to: number) =>
  PASSENGERS.slice(from, to).map((value, index) => ({ ...SERIES, time: (from + index) * 1_000, value }));

async function boards(t: TestContext, env: Record<string, string> = {}) {
  const gateway = await startGateway(t);
  const service = await startService(t, {
    ...gateway.env,
    REALTIME_CHANNELS_MAX_BACKOFF_MS: "50",
    REALTIME_TELEMETRY_LATENESS_MS: "1000",
    REALTIME_TELEMETRY_IDLE_MS: "3600000",
    ...env,
  });
  await gateway.link();
  const alice = service.as("alice");
  const send = async (points: object[], as = alice) => as.call("POST", "/api/telemetry", { points });
  const put = (board: object) => gateway.call("boards.put", board, "alice");
  const value = (key: string, match: (data: any) => boolean = () => true) =>
    gateway.found("board:air", (data, one) => one.latestKey === key && match(data));
  return { gateway, service, alice, send, put, value };
}

test("a batch says what became of its points: accepted, duplicate, late, early", async (t) => {
  const { send, service } = await boards(t);
  const first = await send(months(0, 6));
  assert.deepEqual([first.status, first.body], [202, { accepted: 6, late: 0, duplicate: 0, early: 0 }]);
  // The watermark is at 4 s: the months before are closed, later ones are known.
  assert.deepEqual((await send(months(0, 7))).body, { accepted: 1, late: 4, duplicate: 2, early: 0 });
  const early = { ...SERIES, time: Date.now() + 3_600_000, value: 1 };
  assert.deepEqual((await send([early])).body, { accepted: 0, late: 0, duplicate: 0, early: 1 });
  const twice = { ...SERIES, time: 9_000, value: 1 };
  assert.deepEqual((await send([twice, twice])).body, { accepted: 1, late: 0, duplicate: 1, early: 0 });
  assert.equal(await service.metric("realtime_telemetry_points_total", { outcome: "accepted" }), 8);
});

test("what is wrong is named; a device is its first sender's; series and batches are bounded", async (t) => {
  const { gateway, service, send } = await boards(t, { REALTIME_TELEMETRY_SERIES: "2" });
  const field = async (point: object) =>
    (await send([{ ...SERIES, time: 0, value: 1, ...point }])).body.errors[0].field;
  assert.equal(await field({ value: "warm" }), "points[0].value");
  assert.equal(await field({ device: "a b" }), "points[0].device");
  assert.equal(await field({ colour: "red" }), "points[0].colour");
  assert.equal((await send([])).status, 400);
  assert.equal((await send(Array(1_001).fill(months(0, 1)[0]))).status, 400);
  await send(months(0, 1));
  const foreign = await send(months(1, 2), service.as("bob"));
  assert.deepEqual([foreign.status, foreign.body.reason], [403, "foreign_device"]);
  const published = await gateway.publish(
    "telemetry:airline",
    { points: [{ metric: "m", time: 1, value: 1 }] },
    "bob",
    "k",
  );
  assert.deepEqual([published.error, published.reason], [ErrorCode.PERMISSION_DENIED, "foreign_device"]);
  await send([{ ...SERIES, metric: "second", time: 0, value: 1 }]);
  const third = await send([{ ...SERIES, metric: "third", time: 0, value: 1 }]);
  assert.deepEqual([third.status, third.body.code], [422, "limit_exceeded"]);
});

test("a board shows the newest windows of its devices, in the gateway and over calls", async (t) => {
  const { gateway, send, put, value } = await boards(t);
  assert.equal((await gateway.subscribe("board:air", "bob")).error, ErrorCode.NOT_FOUND);
  assert.equal((await put({ board: "air", devices: ["airline"], season: 12 })).data.season, 12);
  assert.deepEqual((await gateway.subscribe("board:air", "bob")).data.devices, ["airline"]);
  const points = months(0, 3).flatMap((point) => [
    point,
    { ...point, time: point.time + 500, value: point.value + 10 },
  ]);
  await send(points.toReversed());
  const { data } = await value("airline/passengers/1s");
  assert.deepEqual(data, { type: "window", ...SERIES, seconds: 1, start: 0, count: 2, min: 112, max: 122, mean: 117 });
  const { values } = (await gateway.call("boards.get", { board: "air" }, "bob")).data;
  assert.deepEqual(values.find((one: any) => one.key === "airline/passengers/1s").value, data);
  const changed = await gateway.call("boards.put", { board: "air", devices: ["x"] }, "bob");
  assert.equal(changed.error, ErrorCode.PERMISSION_DENIED);
  await put({ board: "air", devices: ["other"] });
  await eventually(() => gateway.emitted.find((one) => one.latestKey === "airline/passengers/1s" && one.removed));
});

test("points come over channels, too, and those who look at a device get what counts", async (t) => {
  const { gateway, send } = await boards(t);
  const points = months(0, 2).map(({ metric, time, value }) => ({ metric, time, value }));
  const taken = await gateway.publish("telemetry:airline", { points }, "alice", "k1");
  assert.deepEqual([taken.data.accepted, taken.publish.points.length, taken.silent], [2, 2, false]);
  const again = await gateway.publish("telemetry:airline", { points }, "alice", "k2");
  assert.deepEqual([again.data.duplicate, again.silent], [2, true]);
  assert.equal((await gateway.publish("telemetry:a b", { points }, "alice", "k3")).error, ErrorCode.INVALID);
  await send(months(1, 4));
  const told = await gateway.found("telemetry:airline", () => true);
  assert.deepEqual(
    told.data.points.map((one: any) => one.value),
    PASSENGERS.slice(2, 4),
  );
});

test("windows that nothing follows close after a silence", async (t) => {
  const { send, put, value } = await boards(t, { REALTIME_TELEMETRY_IDLE_MS: "100" });
  await put({ board: "air", devices: ["airline"] });
  await send(months(0, 1));
  const { data } = await value("airline/passengers/1m");
  assert.deepEqual([data.count, data.mean], [1, 112]);
});

test("a restart goes on with open windows from what was accepted, and tells a new gateway everything", async (t) => {
  const folder = temporaryFolder(t);
  const { gateway, service, send, put } = await boards(t, { REALTIME_DATA_DIR: folder });
  await put({ board: "air", devices: ["airline"] });
  await send(months(0, 5));
  await service.close();
  const next = await startGateway(t, { name: "gateway-2" });
  const env = { REALTIME_DATA_DIR: folder, REALTIME_TELEMETRY_LATENESS_MS: "1000", ...next.env };
  const again = await startService(t, env);
  const shown = await next.found("board:air", (_, one) => one.latestKey === "airline/passengers/1s");
  assert.equal(shown.data.start, 2_000);
  const sent = await again.as("alice").call("POST", "/api/telemetry", { points: months(3, 6) });
  assert.deepEqual(sent.body, { accepted: 1, late: 0, duplicate: 2, early: 0 });
  const closed = await next.found("board:air", (data, one) => one.latestKey.endsWith("1s") && data.start === 3_000);
  assert.deepEqual([closed.data.count, closed.data.mean], [1, 129]);
  assert.ok(gateway.emitted.length > 0);
});

test("a forecast comes every so many windows, from the newest windows, with a band", async (t) => {
  const { gateway, send, put, value } = await boards(t, { REALTIME_BOARDS_FORECAST_EVERY: "12" });
  await put({ board: "air", devices: ["airline"], season: 12 });
  await send(months(0, 12));
  const short = await value("airline/passengers/forecast");
  assert.deepEqual([short.data.status, short.data.reason], ["missing", "too_short"]);
  for (let at = 12; at < 60; at += 6) await send(months(at, at + 6));
  const { data } = await value("airline/passengers/forecast", ({ status }) => status === "fresh");
  assert.deepEqual([data.points.length, data.step_ms, data.points[0].low < data.points[0].high], [12, 1_000, true]);
  await eventually(() => gateway.python.of("forecast").length === 3, "the forecasts");
  const { series } = gateway.python.of("forecast")[0]!.request;
  assert.deepEqual([series.seasonLength, series.values.length, series.values[0]], [12, 34, 112]);
  assert.deepEqual(series.times.slice(0, 3), [0, 1, 2]);
});

test("each closed window is judged once; an anomaly is still told of when newer verdicts have come", async (t) => {
  const { gateway, send, put, value } = await boards(t);
  await put({ board: "air", devices: ["airline"] });
  await send(months(0, 15));
  const { data } = await value("airline/passengers/anomaly", ({ status }) => status === "normal");
  assert.deepEqual([data.value, data.start, data.last_anomaly], [115, 12_000, null]);
  await send([...months(15, 16), { ...SERIES, time: 16_000, value: 9_999 }, ...months(17, 20)]);
  const after = await value("airline/passengers/anomaly", ({ start }) => start === 17_000);
  assert.deepEqual([after.data.last_anomaly.value, after.data.last_anomaly.start], [9_999, 16_000]);
  const [stream, ...others] = gateway.python.of("detectAnomalies");
  assert.deepEqual([stream!.request.values.length, others.length], [18, 0]);
});

test("streams of verdicts end with the link, so that they do not hold a gateway that stops; the next window opens another", async (t) => {
  const { gateway, send, put, value } = await boards(t);
  await put({ board: "air", devices: ["airline"] });
  await send(months(0, 15));
  await value("airline/passengers/anomaly", ({ start }) => start === 12_000);
  const [first] = gateway.python.of("detectAnomalies");
  assert.equal(first!.ended, false);
  (await gateway.link()).break();
  await eventually(() => first!.ended, "the stream's end");
  await gateway.link();
  await send(months(15, 16));
  const { data } = await value("airline/passengers/anomaly", ({ start }) => start === 13_000);
  assert.equal(data.status, "normal");
  assert.equal(gateway.python.of("detectAnomalies").length, 2);
});

test("without Python boards go on, and say once what is missing; when it is back, verdicts need not learn anew", async (t) => {
  const { gateway, send, put, value } = await boards(t, { REALTIME_BOARDS_FORECAST_EVERY: "4" });
  gateway.python.behaviour.before = async () => {
    throw { code: 14, details: "away" };
  };
  await put({ board: "air", devices: ["airline"] });
  for (let at = 0; at < 24; at += 4) await send(months(at, at + 4));
  await value("airline/passengers/1s", ({ start }) => start === 22_000 - 1_000);
  await value("airline/passengers/forecast", ({ reason }) => reason === "unavailable");
  await value("airline/passengers/anomaly", ({ reason }) => reason === "unavailable");
  const missing = gateway.emittedOn("board:air").filter(({ data }) => data?.type === "anomaly");
  assert.equal(missing.length, 1);
  gateway.python.behaviour.before = async () => {};
  let at = 24;
  await eventually(async () => {
    // Python is tried again after a pause: there must be months left by then.
    await pause(100);
    await send(months(at, ++at));
    return gateway.emittedOn("board:air").some(({ data }) => data?.type === "anomaly" && data.status === "normal");
  }, "a verdict");
  // The first verdict that is shown is about a new window: the old ones were only learnt from.
  const first = gateway
    .emittedOn("board:air")
    .find(({ data }) => data?.type === "anomaly" && data.status !== "missing");
  assert.ok(first!.data.start >= 22_000 && first!.data.status === "normal", JSON.stringify(first));
});
