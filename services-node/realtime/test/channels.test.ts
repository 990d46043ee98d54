// The link: what the gateway asks is decided in time or not at all, what is emitted arrives once, and neither depends on
// the link standing.
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { ErrorCode } from "@hybrid/contracts/channels";
import { Type } from "typebox";
import { Channels } from "../src/channels/channels.ts";
import { defineMethods, defineNamespace, type Feature, type HookContext, method } from "../src/channels/registry.ts";
import { readConfig } from "../src/config.ts";
import { GroupCommit } from "../src/db/group.ts";
import { openDatabase } from "../src/db/open.ts";
import { ServiceToken } from "../src/identity.ts";
import { createLog } from "../src/log.ts";
import { createMetrics } from "../src/metrics.ts";
import { Problem } from "../src/problems.ts";
import { type Gateway, startGateway } from "./gateway.ts";
import { eventually, SECRET, startService, temporaryFolder } from "./support.ts";

/** Channels with a feature of the test's own. */
async function link(t: TestContext, gateway: { env: Record<string, string> }, feature: Feature, env = {}) {
  const config = readConfig({ SERVICE_SECRET: SECRET, REALTIME_CHANNELS_MAX_BACKOFF_MS: "50", ...gateway.env, ...env });
  const store = openDatabase(temporaryFolder(t));
  const metrics = createMetrics();
  const channels = new Channels({
    gateway: config.ai.gateway,
    token: new ServiceToken(SECRET),
    database: store.database,
    log: createLog({ format: "json", level: "silent" }),
    metrics,
    config: config.channels,
  });
  channels.serve(feature);
  channels.start();
  let stopped: Promise<void> | undefined;
  const stop = (withinMs = 2_000) => (stopped ??= channels.stop(withinMs));
  t.after(async () => {
    await stop(0);
    metrics.stop();
    store.close();
  });
  return { channels, stop, store, metrics };
}

const values = defineNamespace({ name: "values", kind: "latest", subscribe: "allow", publish: "deny" });
const facts = defineNamespace({ name: "facts", kind: "stream", history: 50, subscribe: "allow", publish: "deny" });

/** A method `test.work` that waits until the test lets it go, and what it was called with. */
function work() {
  const seen: HookContext[] = [];
  const gate = Promise.withResolvers<void>();
  const methods = defineMethods("test", {
    work: method(Type.Object({}, { additionalProperties: true }), async (context) => {
      seen.push(context);
      await gate.promise;
      return { done: true };
    }),
  });
  return { seen, release: () => gate.resolve(), feature: { methods: [methods] } };
}

test("hello says what is served, with its settings", async (t) => {
  const gateway = await startGateway(t);
  await startService(t, gateway.env);
  const { hello } = await gateway.link();
  const chat = hello!.namespaces.find(({ name }) => name === "chat")!;
  assert.deepEqual([hello!.version, hello!.methods, hello!.connects], [1, ["chat", "boards"], false]);
  assert.deepEqual([chat.kind, chat.history, chat.presence, chat.tellLeft], [2, 300, true, true]);
  assert.deepEqual([chat.subscribe, chat.publish], [1, 1]);
  const answers = hello!.namespaces.find(({ name }) => name === "answers")!;
  assert.deepEqual([answers.kind, answers.publish], [3, 3]);
});

test("what is wrong is named, what a hook throws is an error with a reason, and internals stay inside", async (t) => {
  const gateway = await startGateway(t);
  const methods = defineMethods("test", {
    refuse: method(Type.Object({}), async () => {
      throw new Problem("conflict", "That is taken.", { reason: "taken" });
    }),
    later: method(Type.Object({}), async () => {
      throw new Problem("overloaded", "Not now.");
    }),
    fail: method(Type.Object({}), async () => {
      throw new Error("the password is 1234");
    }),
    add: method(Type.Object({ a: Type.Integer() }, { additionalProperties: false }), async (_, { a }) => a + 1),
  });
  await link(t, gateway, { namespaces: [facts], methods: [methods] });
  const call = (name: string, data: unknown = {}) => gateway.call(`test.${name}`, data, "alice");
  const taken = { error: ErrorCode.CONFLICT, message: "That is taken.", reason: "taken", retryAfterMs: 0 };
  assert.deepEqual(await call("refuse"), taken);
  const later = await call("later");
  assert.deepEqual([later.error, later.retryAfterMs], [ErrorCode.UNAVAILABLE, 1000]);
  const failed = await call("fail");
  assert.deepEqual([failed.error, failed.message.includes("1234")], [ErrorCode.INTERNAL, false]);
  assert.deepEqual((await call("add", { a: 1 })).data, 2);
  assert.match((await call("add", { a: "1", b: 2 })).message, /b is not known; a must be integer|a must be integer/);
  assert.equal((await call("add", { a: "1" })).error, ErrorCode.INVALID);
  assert.equal((await call("gone")).error, ErrorCode.NOT_FOUND);
  assert.equal((await gateway.subscribe("nowhere:x", "alice")).error, ErrorCode.NOT_FOUND);
  assert.equal((await gateway.publish("facts:x", 1, "alice", "k")).error, ErrorCode.PERMISSION_DENIED);
});

test("the deadline, a withdrawal and the end of the link each abort the hook", async (t) => {
  const gateway = await startGateway(t);
  const { seen, release, feature } = work();
  t.after(release);
  const { metrics } = await link(t, gateway, feature);
  const call = { case: "call", value: { method: "test.work" } } as const;
  const first = await gateway.link();
  void first.ask(call, { timeoutMs: 40 });
  await eventually(() => seen[0]?.signal.aborted, "the deadline");
  void first.ask(call);
  await eventually(() => seen[1], "the second ask");
  assert.equal(seen[1]!.signal.aborted, false);
  first.withdraw();
  await eventually(() => seen[1]!.signal.aborted, "the withdrawal");
  void first.ask(call);
  await eventually(() => seen[2], "the third ask");
  first.break();
  await eventually(() => seen[2]!.signal.aborted, "the end of the link");
  const again = (await gateway.link()).ask(call, { again: true });
  await eventually(() => seen[3]?.again, "the ask over the next link");
  release();
  assert.equal((await again).kind.case, "call");
  const { values: counted } = await metrics.channelAsks.get();
  const late = counted.find((one) => one.labels.outcome === "late" && one.metricName?.endsWith("_count"));
  assert.equal(late?.value, 3);
});

test("so many hooks run, so many wait, and more are refused at once", async (t) => {
  const gateway = await startGateway(t);
  const { seen, release, feature } = work();
  const env = { REALTIME_CHANNELS_CONCURRENCY: "1", REALTIME_CHANNELS_WAITING: "1" };
  await link(t, gateway, feature, env);
  const [first, second, third] = [1, 2, 3].map(() => gateway.call("test.work", {}, "alice"));
  assert.deepEqual([(await third!).error, (await third!).retryAfterMs], [ErrorCode.UNAVAILABLE, 1000]);
  assert.equal(seen.length, 1);
  release();
  assert.deepEqual([(await first!).data, (await second!).data], [{ done: true }, { done: true }]);
});

test("an emit without an answer goes over the next link with its key, and is published once", async (t) => {
  const gateway = await startGateway(t);
  const { channels } = await link(t, gateway, { namespaces: [facts, values] });
  const first = await gateway.link();
  gateway.state.holdEmits = true;
  const emits = [1, 2, 3].map((n) => channels.emit({ channel: "facts:a", data: n }));
  await eventually(() => first.held.length === 3, "the emits");
  // The gateway had the first one; only its answer was lost.
  const [one] = first.held;
  gateway.emitted.push({ channel: "facts:a", data: 1, key: one!.key, latestKey: "", removed: false, times: 1 });
  gateway.state.holdEmits = false;
  first.break();
  assert.deepEqual(await Promise.all(emits), ["duplicate", "published", "published"]);
  assert.deepEqual(
    gateway.emittedOn("facts:a").map(({ data }) => data),
    [1, 2, 3],
  );
});

test("of a latest value only the newest waits, the queue is bounded, and live ones are dropped without a link", async (t) => {
  const gateway = await startGateway(t);
  gateway.state.refuseLinks = true;
  const live = defineNamespace({ name: "live", kind: "live", subscribe: "allow", publish: "deny" });
  const feature = { namespaces: [facts, values, live] };
  const { channels } = await link(t, gateway, feature, { REALTIME_CHANNELS_EMITS: "3" });
  const emits = [1, 2, 3, 4, 5].map((n) => channels.emit({ channel: "values:a", latestKey: "k", data: n }));
  const more = [1, 2].map((n) => channels.emit({ channel: "facts:a", data: n }));
  await assert.rejects(channels.emit({ channel: "facts:a", data: 3 }), /Too much waits/);
  assert.equal(await channels.emit({ channel: "live:a", data: 1 }), "dropped");
  await assert.rejects(channels.emit({ channel: "none:a", data: 1 }), /no feature serves/);
  gateway.state.refuseLinks = false;
  const superseded = Array<string>(4).fill("superseded");
  assert.deepEqual(await Promise.all(emits), [...superseded, "published"]);
  await Promise.all(more);
  assert.deepEqual(
    gateway.emittedOn("values:a").map(({ data }) => data),
    [5],
  );
});

test("events are dealt with in order and acknowledged after it, also where a hook fails", async (t) => {
  const gateway = await startGateway(t);
  const left: string[] = [];
  const told = defineNamespace({
    name: "told",
    kind: "live",
    subscribe: "allow",
    publish: "deny",
    left: async ({ actor }, channel) => {
      left.push(`${actor.subject} ${channel.path}`);
      if (actor.subject === "bad") throw new Error("no");
    },
  });
  await link(t, gateway, { namespaces: [told] });
  const end = await gateway.link();
  for (const [index, subject] of ["alice", "bad", "bob"].entries()) end.left(BigInt(index + 1), "told:x", subject);
  await eventually(() => end.acknowledged === 3n, "the acknowledgement");
  assert.deepEqual(left, ["alice x", "bad x", "bob x"]);
});

test("a stop says that it is leaving, finishes what runs, and only then ends the stream", async (t) => {
  const gateway = await startGateway(t);
  const { seen, release, feature } = work();
  const { stop } = await link(t, gateway, feature);
  const end = await gateway.link();
  const answer = gateway.call("test.work", {}, "alice");
  await eventually(() => seen[0], "the ask");
  const stopped = stop(5_000);
  await eventually(() => end.leaving, "leaving");
  assert.deepEqual([end.ended, seen[0]!.signal.aborted], [false, false]);
  release();
  assert.deepEqual((await answer).data, { done: true });
  await stopped;
  await eventually(() => end.ended, "the end");
});

test("without a gateway the service is ready, and links when one comes", async (t) => {
  const { env, port, stop } = await startGateway(t);
  stop();
  const service = await startService(t, { ...env, REALTIME_CHANNELS_MAX_BACKOFF_MS: "50" });
  assert.equal((await fetch(`${service.url}/readyz`)).status, 200);
  assert.equal(await service.metric("realtime_channels_link_up"), 0);
  const gateway: Gateway = await startGateway(t, { port });
  await gateway.link();
  await eventually(async () => (await service.metric("realtime_channels_link_up")) === 1, "the link");
});

test("what must be published is, although the process dies first", async (t) => {
  const gateway = await startGateway(t);
  gateway.state.refuseLinks = true;
  const folder = temporaryFolder(t);
  const before = openDatabase(folder);
  const metrics = createMetrics();
  t.after(() => metrics.stop());
  const make = (store: typeof before) => {
    const channels = new Channels({
      gateway: URL.parse(gateway.env.GATEWAY_INTERNAL_URL!)!,
      token: new ServiceToken(SECRET),
      database: store.database,
      log: createLog({ format: "json", level: "silent" }),
      metrics: createMetrics(),
      config: { concurrency: 1, waiting: 1, emits: 10, maxBackoffMs: 20 },
    });
    channels.serve({ namespaces: [facts] });
    return channels;
  };
  const first = make(before);
  before.database.transaction(() => first.keep({ channel: "facts:a", key: "k", data: { n: 1 } }));
  assert.throws(() =>
    before.database.transaction(() => {
      first.keep({ channel: "facts:a", key: "undone", data: { n: 2 } });
      throw new Error("undone");
    }),
  );
  await first.stop(0);
  before.close();
  gateway.state.refuseLinks = false;
  const store = openDatabase(folder);
  const second = make(store);
  second.start();
  await gateway.found("facts:a", ({ n }) => n === 1);
  const count = store.database.statement<{ n: number }>("count", "SELECT COUNT(*) AS n FROM channel_emits");
  await eventually(() => count.get()!.n === 0, "the row's end");
  assert.equal(gateway.emitted.length, 1);
  await second.stop(1_000);
  store.close();
});

test("writes that come together are one transaction, and one that fails is undone alone", async (t) => {
  const { database, close } = openDatabase(temporaryFolder(t));
  t.after(close);
  const group = new GroupCommit(database);
  const insert = database.statement("i", "INSERT INTO channel_emits (channel, key, data) VALUES ('c', ?, '1')");
  const results = await Promise.allSettled([
    group.run(() => insert.run("a").changes),
    group.run(() => {
      insert.run("b");
      throw new Error("not b");
    }),
    group.run(() => insert.run("c").changes),
  ]);
  assert.deepEqual(
    results.map(({ status }) => status),
    ["fulfilled", "rejected", "fulfilled"],
  );
  const keys = database.statement<{ key: string }>("k", "SELECT key FROM channel_emits ORDER BY seq").all();
  assert.deepEqual(
    keys.map(({ key }) => key),
    ["a", "c"],
  );
});
