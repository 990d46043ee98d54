// The channels client in Node, against a gateway and the Node service as they are: both encodings and event streams,
// through the death of the service and the restart of the gateway.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { protobuf } from "../../services-node/channels/src/codec/protobuf.ts";
import { ChannelsClient } from "../../services-node/channels/src/index.ts";
import { startStack } from "./stack.mjs";

const DEADLINE_MS = 20_000;
const KINDS = { json: {}, protobuf: { encoding: protobuf }, sse: { transport: "sse" } };

let stack;
before(async () => {
  stack = await startStack();
});
after(() => stack?.close());

async function eventually(check, what) {
  const end = Date.now() + DEADLINE_MS;
  while (!check()) {
    if (Date.now() > end) throw new Error(`${what} did not come true within ${DEADLINE_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function connect(t, subject, options = {}) {
  const token = await stack.token(subject);
  const client = new ChannelsClient({ url: `${stack.base}/channels/v1`, token: () => token, ...options });
  t.after(() => client.close());
  return client;
}

/** A room's messages as one client sees them. */
async function follow(t, room, options) {
  const client = await connect(t, "bob", options);
  const channel = client.channel(`chat:${room}`);
  const [texts, resets] = [[], []];
  channel.on("publication", ({ data }) => data.type === "message" && texts.push(data.text));
  channel.on("reset", ({ position }) => resets.push(position));
  await channel.subscribe().subscribed();
  return { client, channel, texts, resets };
}

async function open(t, room) {
  const alice = await connect(t, "alice");
  await alice.call("chat.create", { room }, { idempotent: true });
  const followers = await Promise.all(Object.values(KINDS).map((options) => follow(t, room, options)));
  return { alice, channel: alice.channel(`chat:${room}`), followers };
}

const message = (text) => ({ type: "message", text });

test("all transports and encodings deliver the same, in the same order, and read the same history", async (t) => {
  const { alice, channel, followers } = await open(t, "same");
  const receipt = await channel.publish(message("0"), { key: "once" });
  const again = await channel.publish(message("0"), { key: "once" });
  assert.deepEqual([receipt.duplicate, again.duplicate, again.position], [false, true, receipt.position]);
  for (let n = 1; n < 5; n += 1) await channel.publish(message(`${n} ß 🎉`));
  const expected = ["0", ...[1, 2, 3, 4].map((n) => `${n} ß 🎉`)];
  for (const { texts, channel: own, client } of followers) {
    await eventually(() => texts.length === 5, "five messages");
    assert.deepEqual(texts, expected);
    const history = [];
    for await (const { data, sender } of own.history({ pageSize: 2 })) history.push([data.text, sender]);
    assert.deepEqual(history, expected.map((text) => [text, "alice"]));
    await assert.rejects(own.publish({ type: "nonsense" }), { code: "INVALID" });
    assert.equal(client.state, "open");
  }
  const { members, total } = await followers[0].channel.presence();
  assert.deepEqual([total, new Set(members.map(({ subject }) => subject))], [3, new Set(["bob"])]);
  await assert.rejects(alice.call("nothing.here"), { code: "NOT_FOUND" });
  await assert.rejects(alice.channel("chat:no-such-room").subscribe().subscribed(), { code: "NOT_FOUND" });
});

test("who publishes over event streams' plain requests is told the same", async (t) => {
  const { followers } = await open(t, "plain");
  const sse = followers[2];
  const receipt = await sse.channel.publish(message("by POST"), { key: "k" });
  assert.equal((await sse.channel.publish(message("by POST"), { key: "k" })).duplicate, true);
  assert.equal(sse.channel.position.epoch, receipt.position.epoch);
  for (const { texts } of followers) await eventually(() => texts.length === 1, "the message");
});

test("a private room is refused, with the application's own reason", async (t) => {
  const alice = await connect(t, "alice");
  await alice.call("chat.create", { room: "secret", private: true }, { idempotent: true });
  for (const options of Object.values(KINDS)) {
    const bob = await connect(t, "bob", options);
    const refused = bob.channel("chat:secret").subscribe().subscribed();
    await assert.rejects(refused, { code: "PERMISSION_DENIED", reason: "private_room" });
  }
});

test("what is said while the service is killed and started anew arrives once, over connections that stay", async (t) => {
  const { channel, followers } = await open(t, "killed");
  const lost = [];
  for (const { client } of followers) client.on("state", ({ state }) => lost.push(state));
  const sent = [];
  const sending = [];
  for (let n = 0; n < 20; n += 1) {
    sent.push(`${n}`);
    sending.push(channel.publish(message(`${n}`), { timeoutMs: DEADLINE_MS }));
    if (n === 8) await stack.stopRealtime("SIGKILL");
    if (n === 12) void stack.startRealtime();
    await new Promise((resolve) => setTimeout(resolve, 110));
  }
  await Promise.all(sending);
  for (const { texts } of followers) {
    await eventually(() => new Set(texts).size === 20, "all messages");
    assert.deepEqual([...new Set(texts)].sort(), sent.sort());
    assert.ok(texts.length <= 21, `what was on its way at the kill may come twice: ${texts}`);
  }
  assert.deepEqual(lost, []);
});

test("a gateway that starts anew is another history: clients come back, and are told to load anew", async (t) => {
  const { alice, channel, followers } = await open(t, "restart");
  await channel.publish(message("before"));
  for (const { texts } of followers) await eventually(() => texts.length === 1, "the message");
  await stack.stopGateway();
  const late = channel.publish(message("while it was away"), { timeoutMs: DEADLINE_MS });
  await stack.startGateway();
  await late;
  for (const { client, texts, resets } of followers) {
    await eventually(() => resets.length === 1 && client.state === "open", "the reset");
    await eventually(() => texts.at(-1) === "while it was away" || resets[0].offset > 0n, "the message, or its place");
  }
  const page = await alice.call("chat.history", { room: "restart", limit: 10 }, { idempotent: true });
  assert.deepEqual(page.messages.map(({ text }) => text), ["before", "while it was away"]);
});
