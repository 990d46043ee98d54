// Publications, calls and queries: sent until they are answered where that is safe, and within what the gateway allows.
import assert from "node:assert/strict";
import { test } from "node:test";
import { refusal } from "./support/hub.ts";
import { follow, lab, outcome } from "./support/lab.ts";

test("a publication whose reply is lost is sent again with its key, and counts once", async () => {
  const it = lab();
  const { channel, seen } = follow(it.client, "chat:a");
  await it.advance(10);
  const receipt = outcome(channel.publish("once"));
  await it.advance(1);
  it.hub.cut();
  await it.advance(2_000);
  assert.deepEqual(seen, ["once"]);
  assert.equal(receipt.value?.duplicate, true);
  const keys = it.hub.asked.flatMap((command) => (command.case === "publish" ? command.value.key : []));
  assert.equal(keys.length, 2);
  assert.equal(new Set(keys).size, 1);
});

test("a call is not sent twice unless it may be", async () => {
  const it = lab();
  it.client.connect();
  await it.advance(10);
  const [once, again] = [outcome(it.client.call("add", 1)), outcome(it.client.call("add", 2, { idempotent: true }))];
  await it.advance(1);
  it.hub.cut();
  await it.advance(2_000);
  assert.equal(once.error.code, "UNAVAILABLE");
  assert.match(once.error.message, /not known/);
  assert.equal(again.value, 2);
  const calls = it.hub.asked.flatMap((command) => (command.case === "call" ? [command.value.data] : []));
  assert.deepEqual(calls, [1, 2, 2]);
});

test("what was asked before the connection is asked when it is there, in order", async () => {
  const it = lab();
  it.hub.isDown = true;
  const [call, publication] = [outcome(it.client.call("echo", 7)), outcome(it.client.channel("chat:a").publish("x"))];
  await it.advance(5_000);
  assert.ok(!call.isDone);
  it.hub.isDown = false;
  await it.advance(15_000);
  assert.equal(call.value, 7);
  assert.equal(publication.value?.duplicate, false);
});

test("a publication waits for its channel's subscription", async () => {
  const it = lab();
  const { channel } = follow(it.client, "chat:a");
  const receipt = outcome(channel.publish("x"));
  await it.advance(100);
  assert.ok(receipt.value);
  assert.deepEqual(
    it.hub.asked.map((command) => command.case),
    ["connect", "subscribe", "publish"],
  );
});

test("a time or a signal ends the waiting, and a late reply is nobody's", async () => {
  const it = lab();
  it.hub.latencyMs = 1_000;
  const controller = new AbortController();
  const late = outcome(it.client.channel("chat:a").publish("x", { timeoutMs: 2_500 }));
  const left = outcome(it.client.call("echo", 1, { signal: controller.signal }));
  await it.advance(2_400);
  controller.abort();
  await it.advance(200);
  assert.equal(late.error.code, "TIMEOUT");
  assert.equal(left.error.name, "AbortError");
  await it.advance(10_000);
  assert.equal(it.client.state, "open");
  const gone = outcome(it.client.call("echo", 1, { signal: AbortSignal.abort(new Error("gone")) }));
  await it.advance(10);
  assert.equal(gone.error.message, "gone");
});

test("RATE_LIMITED is waited for, other refusals are told", async () => {
  const it = lab();
  let limited = 3;
  it.hub.refuse = ({ case: what }) =>
    what === "publish" && limited-- > 0
      ? refusal("RATE_LIMITED", 200)
      : what === "call"
        ? refusal("NOT_FOUND")
        : undefined;
  const receipt = outcome(it.client.channel("chat:a").publish("x"));
  const call = outcome(it.client.call("nothing"));
  await it.advance(100);
  assert.equal(call.error.code, "NOT_FOUND");
  await it.advance(1_000);
  assert.ok(receipt.value);
  assert.equal(it.hub.count("publish"), 4);
});

test("no more commands are in flight, and no more are sent in a second, than the gateway allows", async () => {
  const it = lab();
  Object.assign(it.hub.limits, { commandsInFlight: 4, commandsPerSecond: 50 });
  it.hub.latencyMs = 10;
  it.client.connect();
  await it.advance(100);
  let most = 0;
  it.hub.answer = () => {
    most = Math.max(most, it.hub.count("call"));
    return null;
  };
  const all = Array.from({ length: 150 }, (_, n) => it.client.call("echo", n));
  await it.advance(15);
  assert.equal(it.hub.count("call"), 4);
  const done = outcome(Promise.all(all));
  await it.advance(1_000);
  assert.ok(it.hub.count("call") <= 101, `${it.hub.count("call")} in the first second: the burst, and one second's`);
  await it.advance(2_000);
  assert.ok(done.isDone);
});

test("the queue is bounded and says so", async () => {
  const it = lab({ maxQueue: 3 });
  it.hub.isDown = true;
  const calls = [1, 2, 3, 4].map((n) => outcome(it.client.call("echo", n)));
  await it.advance(10);
  assert.deepEqual(
    calls.map(({ error }) => error?.code),
    [undefined, undefined, undefined, "QUEUE_FULL"],
  );
  assert.match(calls[3]!.error.message, /3 requests wait already/);
});

test("history is read in pages as it is needed", async () => {
  const it = lab();
  it.hub.page = 10;
  const { channel } = follow(it.client, "chat:a");
  for (let n = 0; n < 35; n += 1) it.hub.publish("chat:a", n);
  const read: unknown[] = [];
  const all = (async () => {
    for await (const { data } of channel.history()) read.push(data);
  })();
  await it.advance(1_000);
  await all;
  assert.deepEqual(read, [...Array(35).keys()]);
  assert.equal(it.hub.count("history"), 4);
  const first = outcome(channel.history({ pageSize: 2 }).next());
  await it.advance(100);
  assert.equal(first.value?.value?.data, 0);
  assert.equal(it.hub.count("history"), 5, "no page is fetched ahead");
  const gone = outcome(channel.history({ from: { epoch: "other", offset: 1n } }).next());
  await it.advance(100);
  assert.equal(gone.error.code, "NOT_FOUND");
});
