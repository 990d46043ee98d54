// The connection's life in virtual time: greeting, waiting, resuming, silence, tokens, and what ends it for good.
import assert from "node:assert/strict";
import { test } from "node:test";
import { refusal } from "./support/hub.ts";
import { follow, lab, outcome } from "./support/lab.ts";

const connects = ({ hub }: ReturnType<typeof lab>) =>
  hub.asked.flatMap((command) => (command.case === "connect" ? [command.value] : []));

test("nothing is connected before it is needed, and then once", async () => {
  const { client, hub, states, advance } = lab();
  await advance(60_000);
  assert.equal(client.state, "closed");
  assert.equal(hub.links.size, 0);
  follow(client, "chat:a");
  follow(client, "chat:b");
  await advance(10);
  assert.deepEqual(
    states.map(({ state }) => state),
    ["connecting", "open"],
  );
  assert.deepEqual([hub.count("connect"), hub.count("subscribe")], [1, 2]);
});

test("a lost connection is made again with full jitter, and resumes by ticket", async () => {
  const it = lab();
  follow(it.client, "chat:a");
  await it.advance(10_000);
  it.hub.isDown = true;
  it.hub.cut();
  await it.advance(120_000);
  const waits = it.states.flatMap(({ retryInMs }) => retryInMs ?? []);
  assert.ok(waits.length >= 6, `${waits.length} tries`);
  waits.forEach((wait, attempt) => void assert.ok(wait <= Math.min(30_000, 250 * 2 ** attempt), `${attempt}: ${wait}`));
  assert.ok(new Set(waits).size === waits.length, "no two waits are alike");
  it.hub.isDown = false;
  await it.advance(31_000);
  assert.equal(it.client.state, "open");
  assert.deepEqual(
    connects(it).map(({ ticket }) => ticket),
    ["", "s1"],
  );
  assert.deepEqual(
    connects(it)[1]!.resume.map(({ channel }) => channel),
    ["chat:a"],
  );
  assert.equal(it.hub.count("subscribe"), 1, "what the ticket grants is not asked for again");
});

test("retry_after_ms of a close is the least that is waited", async () => {
  const it = lab();
  it.client.connect();
  await it.advance(10_000);
  it.hub.cut(4000, 7_000);
  await it.advance(6_999);
  assert.equal(it.client.state, "waiting");
  await it.advance(10);
  assert.equal(it.client.state, "open");
});

test("a push says the same as the close frame", async () => {
  const it = lab();
  it.client.connect();
  await it.advance(10);
  const value = { code: 4000, message: "", retryAfterMs: 3_000 };
  for (const link of it.hub.links) link.say({ id: 0, case: "closing", value });
  await it.advance(2_000);
  assert.equal(it.client.state, "waiting");
  await it.advance(1_500);
  assert.equal(it.client.state, "open");
});

test("close codes from 4500 on end it for good, and what waits fails with CLOSED", async () => {
  const it = lab();
  const { seen } = follow(it.client, "chat:a");
  await it.advance(10);
  it.hub.refuse = ({ case: what }) => (what === "publish" ? refusal("UNAVAILABLE", 60_000) : undefined);
  const waiting = outcome(it.client.channel("chat:a").publish("x"));
  await it.advance(10);
  it.hub.cut(4503);
  await it.advance(100_000);
  assert.equal(it.client.state, "closed");
  assert.deepEqual([waiting.error.code, waiting.error.closeCode], ["CLOSED", 4503]);
  assert.deepEqual(seen, ["unsubscribed CLOSED"]);
  assert.equal(it.hub.count("connect"), 1);
  assert.equal(it.clock.pending, 0, "no timer is left");
});

test("a refused connect without retry ends it, one with retry is tried again", async () => {
  const it = lab();
  it.hub.refuse = ({ case: what }) => (what === "connect" ? refusal("UNAVAILABLE", 2_000) : undefined);
  it.client.connect();
  await it.advance(1_900);
  assert.equal(it.client.state, "waiting");
  it.hub.refuse = ({ case: what }) => (what === "connect" ? refusal("PERMISSION_DENIED") : undefined);
  const waiting = outcome(it.client.call("chat.rooms"));
  await it.advance(3_000);
  assert.equal(it.client.state, "closed");
  assert.equal(waiting.error.code, "PERMISSION_DENIED");
});

test("a ticket that is no good is dropped, and the session begins anew at once", async () => {
  const it = lab({ token: () => "token" });
  const { seen } = follow(it.client, "chat:a");
  await it.advance(10_000);
  it.hub.publish("chat:a", 1);
  await it.advance(10);
  it.hub.forget();
  it.hub.cut();
  await it.advance(300);
  assert.equal(it.client.state, "open");
  assert.deepEqual(
    connects(it).map(({ ticket, token }) => ticket || token),
    ["token", "s1", "token"],
  );
  assert.deepEqual(seen, [1, "reset"], "the log of a new gateway is another one");
});

test("a gateway that falls silent is left after twice its heartbeat", async () => {
  const it = lab();
  it.client.connect();
  await it.advance(10);
  for (let beat = 0; beat < 4; beat += 1) {
    it.hub.beat();
    await it.advance(25_000);
    assert.equal(it.client.state, "open");
  }
  assert.equal(it.hub.count("ping"), 4, "each heartbeat is answered");
  for (const link of it.hub.links) link.silence();
  await it.advance(30_000);
  assert.ok(connects(it).length >= 2, "it has connected again");
});

test("a wake-up ends the waiting, and finds a connection that died in its sleep", async () => {
  const browser = new EventTarget();
  Object.assign(globalThis, { window: browser });
  try {
    const it = lab();
    it.client.connect();
    await it.advance(10_000);
    for (const link of it.hub.links) link.silence();
    browser.dispatchEvent(new Event("online"));
    await it.advance(5_300);
    assert.equal(connects(it).length, 2, "the silent connection is left after the probe");
    it.hub.cut(4000, 60_000);
    await it.advance(10);
    browser.dispatchEvent(new Event("online"));
    await it.advance(10);
    assert.equal(it.client.state, "open");
    it.client.close();
    browser.dispatchEvent(new Event("online"));
    await it.advance(10);
    assert.equal(it.client.state, "closed");
  } finally {
    Reflect.deleteProperty(globalThis, "window");
  }
});

test("a connection that is not greeted in time is given up", async () => {
  const it = lab({ connectTimeoutMs: 2_000 });
  it.hub.latencyMs = 1_500;
  it.client.connect();
  await it.advance(2_500);
  assert.ok(it.states.some(({ state }) => state === "waiting"));
  it.hub.latencyMs = 1;
  await it.advance(2_000);
  assert.equal(it.client.state, "open");
});

function jwt(lifeSeconds: number): string {
  const iat = Math.floor(Date.now() / 1000);
  const part = (json: object) => Buffer.from(JSON.stringify(json)).toString("base64url");
  return `${part({ alg: "none" })}.${part({ iat, exp: iat + lifeSeconds })}.x`;
}

test("a token is replaced before it ends", async () => {
  let given = 0;
  const it = lab({ token: () => jwt(100 + given++) });
  it.client.connect();
  await it.advance(70_000);
  assert.equal(it.hub.count("refresh"), 0);
  it.hub.beat();
  await it.advance(15_000);
  assert.equal(it.hub.count("refresh"), 1);
  assert.equal(given, 2);
});

test("a new token that cannot be had is asked for again while the old one lasts", async () => {
  let isAway = false;
  const it = lab({
    token: () => {
      if (isAway) throw new Error("away");
      return jwt(100);
    },
  });
  it.client.connect();
  await it.advance(40_000);
  it.hub.beat();
  isAway = true;
  await it.advance(40_010);
  it.hub.beat();
  assert.deepEqual([it.hub.count("refresh"), it.problems.length > 0], [0, true]);
  isAway = false;
  await it.advance(10_000);
  assert.deepEqual([it.hub.count("refresh"), it.client.state], [1, "open"]);
});

test("a token that cannot be had is asked for again, and the ended session begins with a new one", async () => {
  let isAway = true;
  const it = lab({
    token: async () => {
      if (isAway) throw new Error("away");
      return "opaque";
    },
  });
  it.client.connect();
  await it.advance(1_000);
  assert.equal(it.client.state, "waiting");
  assert.ok(it.problems.length > 1);
  isAway = false;
  await it.advance(30_000);
  assert.equal(it.client.state, "open");
  it.hub.cut(4003);
  await it.advance(1_000);
  assert.deepEqual(
    connects(it).map(({ token, ticket }) => [token, ticket]),
    [
      ["opaque", ""],
      ["opaque", ""],
    ],
  );
});

test("after close, connect begins anew", async () => {
  const it = lab();
  it.client.connect();
  await it.advance(10);
  it.client.close();
  assert.equal(it.clock.pending, 0);
  const late = outcome(it.client.call("echo", 1));
  await it.advance(10);
  assert.equal(late.value, 1);
  assert.equal(connects(it)[1]!.ticket, "", "with a new session");
});
