// The client over real WebSockets, in both encodings, with Node's own WebSocket and with that of the package ws.
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { WebSocket as WsSocket } from "ws";
import { protobuf } from "../src/codec/protobuf.ts";
import { ChannelsClient, type ClientOptions } from "../src/index.ts";
import type { WebSocketClass } from "../src/transports/websocket.ts";
import { follow } from "./support/lab.ts";
import { eventually, startServer } from "./support/server.ts";

function connect(t: TestContext, options: ClientOptions) {
  const client = new ChannelsClient({ backoff: { baseMs: 10, maxMs: 50 }, ...options });
  t.after(() => client.close());
  return client;
}

const KINDS: [string, Partial<ClientOptions>, string][] = [
  ["json, Node's WebSocket", {}, "hybrid.channels.v1.json"],
  ["protobuf, Node's WebSocket", { encoding: protobuf }, "hybrid.channels.v1.proto"],
  ["json, the package ws", { WebSocket: WsSocket as unknown as WebSocketClass }, "hybrid.channels.v1.json"],
];

for (const [name, options, protocol] of KINDS) {
  test(`${name}: everything once through, and through a restart of the gateway`, async (t) => {
    const server = await startServer(t);
    const client = connect(t, { url: server.url, ...options });
    const { channel, seen } = follow(client, "chat:a");
    await channel.subscribed();
    const receipt = await channel.publish({ text: "ß 🎉", list: [1, null] });
    assert.equal(receipt.duplicate, false);
    await eventually(() => seen.length === 1);
    await client.channel("chat:a").publish(new Uint8Array([0, 128, 255]));
    await eventually(() => seen.length === 2);
    assert.deepEqual(seen, [{ text: "ß 🎉", list: [1, null] }, new Uint8Array([0, 128, 255])]);
    assert.deepEqual(await client.call("echo", { a: [true] }), { a: [true] });
    assert.deepEqual(await channel.presence(), { members: [], total: 0 });
    assert.equal(server.seen.protocol, protocol);

    await server.down();
    await eventually(() => client.state === "waiting");
    const later = channel.publish("sent while it was away");
    server.hub.publish("chat:a", "meanwhile");
    await server.up();
    await later;
    await eventually(() => seen.length === 4);
    assert.deepEqual(seen.slice(2), ["meanwhile", "sent while it was away"]);
    const history = [];
    for await (const { data } of channel.history({ pageSize: 1 })) history.push(data);
    assert.deepEqual(history, seen);
  });
}

test("what is asked at once leaves in one frame, and never in a larger one than is allowed", async (t) => {
  const server = await startServer(t);
  server.hub.limits.frameBytes = 1_000;
  const client = connect(t, { url: server.url });
  await client.call("echo");
  server.seen.frames = 0;
  await Promise.all(["a", "b", "c"].map((data) => client.call("echo", data)));
  assert.equal(server.seen.frames, 1);
  await Promise.all(Array.from({ length: 10 }, () => client.call("echo", "x".repeat(400))));
  assert.equal(server.seen.frames, 1 + 5);
  await assert.rejects(client.call("echo", "x".repeat(1_000)), { code: "TOO_LARGE" });
  assert.equal(client.state, "open");
});

test("a close frame says how long to wait, and its range whether to come back", async (t) => {
  const server = await startServer(t);
  const client = connect(t, { url: server.url });
  const waits: number[] = [];
  client.on("state", ({ retryInMs }) => retryInMs !== undefined && waits.push(retryInMs));
  await client.call("echo");
  for (const socket of server.sockets) socket.close(4000, '{"code":"DRAINING","retry_after_ms":120}');
  await eventually(() => waits.length > 0);
  assert.ok(waits[0]! >= 120 && waits[0]! < 200, `${waits[0]}`);
  await client.call("echo");
  for (const socket of server.sockets) socket.close(4503, '{"code":"REVOKED","message":"You left."}');
  await eventually(() => client.state === "closed");
});

test("a frame that is none ends the connection, not the client", async (t) => {
  const server = await startServer(t);
  const client = connect(t, { url: server.url });
  await client.call("echo");
  const states: string[] = [];
  client.on("state", ({ state }) => states.push(state));
  for (const socket of server.sockets) socket.send("{");
  await eventually(() => states.includes("waiting"));
  assert.equal(await client.call("echo", "again"), "again");
});

test("a url of another kind is refused, and named", () => {
  assert.throws(() => new ChannelsClient({ url: "ftp://example.com/channels/v1" }), /ftp:.*is not http/);
  assert.throws(() => new ChannelsClient({ url: "/channels/v1" }), /Invalid URL/);
});
