// What a channel delivers, whatever happens to the connection: in order, once, and never a gap without notice.
import assert from "node:assert/strict";
import { test } from "node:test";
import { refusal } from "./support/hub.ts";
import { follow, lab } from "./support/lab.ts";

test("what was published while away comes first, once and in order", async () => {
  const it = lab();
  const { seen } = follow(it.client, "chat:a");
  await it.advance(10);
  it.hub.publish("chat:a", 1);
  await it.advance(10);
  it.hub.cut();
  it.hub.publish("chat:a", 2);
  it.hub.publish("chat:a", 3);
  await it.advance(1_000);
  it.hub.publish("chat:a", 4);
  await it.advance(10);
  assert.deepEqual(seen, [1, 2, 3, 4]);
});

test("a long absence is read in pages", async () => {
  const it = lab();
  it.hub.page = 10;
  const { seen } = follow(it.client, "chat:a");
  await it.advance(10);
  it.hub.cut();
  for (let n = 0; n < 95; n += 1) it.hub.publish("chat:a", n);
  await it.advance(1_000);
  assert.deepEqual(seen, [...Array(95).keys()]);
  assert.equal(it.hub.count("unsubscribe"), 0, "nothing had to be repaired");
});

test("more than the history keeps is a reset, and nothing of the time before it", async () => {
  const it = lab();
  it.hub.kept = 5;
  const { seen } = follow(it.client, "chat:a");
  await it.advance(10);
  it.hub.publish("chat:a", "before");
  await it.advance(10);
  it.hub.cut();
  for (let n = 0; n < 20; n += 1) it.hub.publish("chat:a", n);
  await it.advance(1_000);
  it.hub.publish("chat:a", "after");
  await it.advance(10);
  assert.deepEqual(seen, ["before", "reset", "after"]);
});

test("a place of the future is a reset, too", async () => {
  const it = lab();
  const { channel, seen } = follow(it.client, "chat:a");
  channel.unsubscribe();
  const { epoch } = it.hub.log("chat:a");
  channel.subscribe({ from: { epoch, offset: 99n } });
  await it.advance(10);
  it.hub.publish("chat:a", 1);
  await it.advance(10);
  assert.deepEqual(seen, ["reset", 1]);
});

test("a lost publication shows by the next one, and is read again", async () => {
  const it = lab();
  const { seen } = follow(it.client, "chat:a");
  await it.advance(10);
  it.hub.publish("chat:a", 1);
  it.hub.push = () => "lose";
  it.hub.publish("chat:a", 2);
  it.hub.push = () => "deliver";
  it.hub.publish("chat:a", 3);
  await it.advance(100);
  it.hub.publish("chat:a", 4);
  await it.advance(100);
  assert.deepEqual(seen, [1, 2, 3, 4]);
  assert.deepEqual([it.hub.count("unsubscribe"), it.hub.count("subscribe")], [1, 2]);
});

test("a lost tail shows by a heartbeat", async () => {
  const it = lab();
  const { seen } = follow(it.client, "chat:a");
  await it.advance(10);
  it.hub.push = () => "lose";
  it.hub.publish("chat:a", 1);
  it.hub.push = () => "deliver";
  it.hub.beat();
  await it.advance(1_900);
  assert.deepEqual(seen, [], "what is on its way gets its time");
  await it.advance(200);
  assert.deepEqual(seen, [1]);
});

test("a heartbeat before the publication it names repairs nothing", async () => {
  const it = lab();
  const { seen } = follow(it.client, "chat:a");
  await it.advance(10);
  it.hub.push = () => "lose";
  it.hub.publish("chat:a", 1);
  it.hub.push = () => "deliver";
  it.hub.beat();
  await it.advance(100);
  const [entry] = it.hub.log("chat:a").entries;
  const late = { channel: "chat:a", publications: [entry!] };
  for (const link of it.hub.links) link.say({ id: 0, case: "publications", value: late });
  await it.advance(10_000);
  assert.deepEqual(seen, [1]);
  assert.equal(it.hub.count("subscribe"), 1);
});

test("what comes twice is delivered once", async () => {
  const it = lab();
  const { seen } = follow(it.client, "chat:a");
  await it.advance(10);
  it.hub.push = () => "double";
  for (const n of [1, 2, 3]) it.hub.publish("chat:a", n);
  await it.advance(10);
  assert.deepEqual(seen, [1, 2, 3]);
});

test("live channels go on from now, and are not compared with what was", async () => {
  const it = lab();
  const { seen } = follow(it.client, "live:a");
  await it.advance(10);
  it.hub.publish("live:a", 1);
  it.hub.publish("live:a", 1);
  await it.advance(10);
  it.hub.cut();
  it.hub.publish("live:a", 2);
  await it.advance(1_000);
  it.hub.publish("live:a", 3);
  await it.advance(10);
  assert.deepEqual(seen, [1, 1, 3]);
});

test("latest: the newest value of each key, and keys that went while away", async () => {
  const it = lab();
  it.hub.publish("latest:a", "x0", { latestKey: "x" });
  const { seen } = follow(it.client, "latest:a");
  await it.advance(10);
  it.hub.publish("latest:a", "y1", { latestKey: "y" });
  await it.advance(10);
  it.hub.cut();
  it.hub.publish("latest:a", "x1", { latestKey: "x" });
  it.hub.publish("latest:a", undefined, { latestKey: "y", removed: true });
  await it.advance(1_000);
  it.hub.publish("latest:a", undefined, { latestKey: "x", removed: true });
  await it.advance(10);
  assert.deepEqual(seen, ["x0", "y1", "x1", "removed y", "removed x"]);
  it.hub.publish("latest:a", "z2", { latestKey: "z" });
  await it.advance(10);
  it.hub.logs.clear();
  it.hub.publish("latest:a", "new", { latestKey: "x" });
  it.hub.cut();
  await it.advance(1_000);
  assert.deepEqual(seen.slice(5), ["z2", "reset", "new"], "another history: what was known counts no more");
});

test("a subscription that is refused ends; one with a time is tried again", async () => {
  const it = lab();
  it.hub.refuse = ({ case: what }) => (what === "subscribe" ? refusal("UNAVAILABLE", 500) : undefined);
  const { channel, seen } = follow(it.client, "chat:a");
  await it.advance(100);
  it.hub.refuse = () => undefined;
  await it.advance(600);
  assert.ok(channel.isSubscribed);
  it.hub.refuse = ({ case: what }) => (what === "subscribe" ? refusal("PERMISSION_DENIED") : undefined);
  const other = it.client.channel("chat:b").subscribe();
  await assert.rejects(
    Promise.all([other.subscribed(), it.advance(10_000)]),
    (error: { code: string }) => error.code === "PERMISSION_DENIED",
  );
  assert.equal(it.hub.count("subscribe"), 3);
  assert.deepEqual(seen, ["unsubscribed UNAVAILABLE"]);
});

test("the gateway ends a subscription: for good, or until later", async () => {
  const it = lab();
  const { channel, seen } = follow(it.client, "chat:a");
  await it.advance(10);
  const end = (retryAfterMs: number) => {
    const value = { channel: "chat:a", error: refusal("UNAVAILABLE", retryAfterMs) };
    for (const link of it.hub.links) link.say({ id: 0, case: "unsubscribed", value });
  };
  end(100);
  await it.advance(1_000);
  assert.equal(it.hub.count("subscribe"), 2);
  end(0);
  await it.advance(10_000);
  assert.deepEqual([channel.isSubscribed, it.hub.count("subscribe")], [false, 2]);
  assert.deepEqual(seen, ["unsubscribed UNAVAILABLE", "unsubscribed UNAVAILABLE"]);
});

test("a channel that was left says nothing more, and is not resumed", async () => {
  const it = lab();
  const { channel, seen } = follow(it.client, "chat:a");
  await it.advance(10);
  channel.unsubscribe();
  it.hub.publish("chat:a", 1);
  await it.advance(10);
  it.hub.cut();
  await it.advance(1_000);
  assert.deepEqual(seen, []);
  const resumes = it.hub.asked.flatMap((command) => (command.case === "connect" ? command.value.resume : []));
  assert.deepEqual(resumes, []);
});

test("a listener that throws stops nobody else", async () => {
  const it = lab();
  const thrown: unknown[] = [];
  const { reportError } = globalThis;
  globalThis.reportError = (error: unknown) => void thrown.push(error);
  const { channel, seen } = follow(it.client, "chat:a");
  channel.on("publication", () => {
    throw new Error("a fault of the page");
  });
  await it.advance(10);
  it.hub.publish("chat:a", 1);
  await it.advance(10);
  assert.deepEqual(seen, [1]);
  assert.equal((thrown[0] as Error).message, "a fault of the page");
  globalThis.reportError = reportError;
});

const SEEDS = 60;

test(`nothing is missing, nothing comes twice: ${SEEDS} random lives of a connection`, async () => {
  let faults = 0;
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    const it = lab({ seed });
    it.hub.page = 7;
    it.hub.latencyMs = 5;
    const { seen } = follow(it.client, "chat:a");
    await it.advance(100);
    let published = 0;
    for (let step = 0; step < 80; step += 1) {
      const chance = it.clock.random();
      it.hub.push = () => (it.clock.random() < 0.05 ? "lose" : it.clock.random() < 0.1 ? "double" : "deliver");
      if (chance < 0.75) for (let n = it.clock.random() * 4; n > 0; n -= 1) it.hub.publish("chat:a", published++);
      else if (chance < 0.85) it.hub.cut();
      else if (chance < 0.9) for (const link of it.hub.links) link.silence();
      else it.hub.beat();
      faults += chance >= 0.75 && chance < 0.9 ? 1 : 0;
      await it.advance(it.clock.random() * 400);
    }
    it.hub.push = () => "deliver";
    await it.advance(60_000);
    it.hub.beat();
    await it.advance(60_000);
    assert.deepEqual(seen, [...Array(published).keys()], `seed ${seed}`);
    it.client.close();
  }
  assert.ok(faults > SEEDS);
});
