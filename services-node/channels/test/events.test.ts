// The sse transport over real HTTP: the event stream's form is that of the gateway's events endpoint.
import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { ChannelsClient } from "../src/index.ts";
import { EventReader } from "../src/transports/event_stream.ts";
import { follow } from "./support/lab.ts";
import { eventually } from "./support/server.ts";

test("events are read from pieces of any size, with any line ends", () => {
  const text =
    'id: 1\r\nevent: connected\r\ndata: {"a":\r\ndata: 1}\r\n\r\n: beat\n\ndata: x\n\ndata:y\r\rid: 2\n\nevent: lost\n\n';
  const whole = new EventReader().read(`${text}data: z\n\n`);
  assert.deepEqual(whole, [
    { event: "connected", data: '{"a":\n1}', id: "1" },
    { event: "message", data: "x", id: "1" },
    { event: "message", data: "y", id: "1" },
    { event: "message", data: "z", id: "2" },
  ]);
  const [reader, pieces] = [new EventReader(), [...`${text}data: z\n\n`]];
  assert.deepEqual(
    pieces.flatMap((char) => reader.read(char)),
    whole,
  );
});

type Asked = { method: string; url: URL; headers: IncomingMessage["headers"]; body: string };

/** The gateway's plain endpoints, as a test says they answer. */
async function startGateway(t: TestContext, answer: (asked: Asked, response: ServerResponse) => void) {
  const asked: Asked[] = [];
  const streams: ServerResponse[] = [];
  const server = createServer(async (request, response) => {
    const url = new URL(request.url!, "http://gateway");
    const one = { method: request.method!, url, headers: request.headers, body: await text(request) };
    asked.push(one);
    if (url.pathname.endsWith("/events")) streams.push(response);
    answer(one, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/channels/v1`;
  const client = new ChannelsClient({ url, transport: "sse", token: () => "t", backoff: { baseMs: 5, maxMs: 20 } });
  t.after(() => client.close());
  return { client, asked, streams };
}

async function text(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

let position = 0;
const event = (name: string, ...messages: object[]) =>
  `id: p${++position}\nevent: ${name}\ndata: ${JSON.stringify({ messages })}\n\n`;
const publication = (channel: string, offset: number) => ({
  publications: { channel, publications: [{ offset: `${offset}`, previous: `${offset - 1}`, data: { json: offset } }] },
});
const subscribed = (id: number, channel: string, offset: number, recovered = true) => ({
  id,
  subscribed: { channel, kind: "CHANNEL_KIND_STREAM", position: { epoch: "e", offset: `${offset}` }, recovered },
});

/** Opens the stream with a subscription for each channel of the query. */
function open({ url }: Asked, response: ServerResponse, offset = 0, recovered = true) {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.write(event("connected", { id: 1, connected: { session: "s" } }));
  url.searchParams.getAll("channel").forEach((channel, index) => {
    response.write(event("subscribed", subscribed(index + 2, channel, offset, recovered)));
  });
}

test("one stream carries all channels; a new one goes on where the old one was", async (t) => {
  const { client, asked, streams } = await startGateway(t, (one, response) => open(one, response, asked.length - 1));
  const [a, b] = [follow(client, "chat:a"), follow(client, "chat:b")];
  await Promise.all([a.channel.subscribed(), b.channel.subscribed()]);
  assert.deepEqual(
    asked.map(({ url }) => url.search),
    ["?channel=chat%3Aa&channel=chat%3Ab"],
  );
  assert.equal(asked[0]!.headers.authorization, "Bearer t");
  streams[0]!.write(`:\n\n${event("message", publication("chat:a", 1))}`);
  await eventually(() => a.seen.length === 1);
  const last = `p${position}`;
  const c = follow(client, "chat:c");
  await c.channel.subscribed();
  assert.equal(asked[1]!.headers["last-event-id"], last);
  assert.equal(asked[1]!.url.searchParams.getAll("channel").length, 3);
  streams[1]!.write(event("message", publication("chat:a", 2)));
  await eventually(() => a.seen.length === 2);
  assert.deepEqual([a.seen, b.seen, c.seen], [[1, 2], [], []]);
});

test("a stream that breaks is opened again with the last id", async (t) => {
  const { client, asked, streams } = await startGateway(t, (one, response) => open(one, response));
  const { channel, seen } = follow(client, "chat:a");
  await channel.subscribed();
  streams[0]!.write(event("message", publication("chat:a", 1)));
  await eventually(() => seen.length === 1);
  const last = `p${position}`;
  streams[0]!.destroy();
  await eventually(() => asked.length === 2);
  assert.equal(asked[1]!.headers["last-event-id"], last);
  await eventually(() => channel.isSubscribed);
  assert.deepEqual(seen, [1]);
});

test("a history that is lost in between is a reset", async (t) => {
  const { client, asked, streams } = await startGateway(t, (one, response) => open(one, response, 9, asked.length < 2));
  const { channel, seen } = follow(client, "chat:a");
  await channel.subscribed();
  streams[0]!.destroy();
  await eventually(() => seen.includes("reset"));
});

test("so is one that is lost while the stream changes its channels", async (t) => {
  const { client, asked } = await startGateway(t, (one, response) => {
    open(one, response, 9, asked.length === 1 || asked.length > 3);
  });
  const a = follow(client, "chat:a");
  await a.channel.subscribed();
  const b = follow(client, "chat:b");
  await eventually(() => a.seen.includes("reset"));
  await eventually(() => a.channel.isSubscribed && b.channel.isSubscribed);
  assert.deepEqual(a.seen, ["unsubscribed UNAVAILABLE", "reset"]);
});

test("publications and history are plain requests, refusals have the gateway's words", async (t) => {
  let limited = 1;
  const { client, asked } = await startGateway(t, ({ url, body }, response) => {
    response.setHeader("content-type", "application/json");
    if (url.pathname.endsWith("/history")) {
      const [{ publications }] = [publication("chat:a", 3).publications];
      response.end(JSON.stringify({ publications, top: { epoch: "e", offset: "3" }, found: true }));
    } else if (limited-- > 0) {
      response.writeHead(429, { "retry-after": "0.02" }).end('{"code":"resource_exhausted","detail":"slower"}');
    } else if (body.includes("no")) {
      response.writeHead(403).end('{"code":"permission_denied","detail":"private","reason":"private_room"}');
    } else response.end('{"position":{"epoch":"e","offset":"4"}}');
  });
  const channel = client.channel("chat:a");
  const receipt = await channel.publish({ text: "yes" });
  assert.deepEqual(receipt.position, { epoch: "e", offset: 4n });
  const bodies = asked.map(({ body }) => JSON.parse(body));
  assert.deepEqual([bodies.length, bodies[0].key], [2, bodies[1].key]);
  await assert.rejects(channel.publish("no"), {
    code: "PERMISSION_DENIED",
    message: "private",
    reason: "private_room",
  });
  const from = { epoch: "e", offset: 2n };
  for await (const { data } of channel.history({ from, pageSize: 7 })) assert.equal(data, 3);
  assert.equal(asked.at(-1)!.url.search, "?channel=chat%3Aa&from.epoch=e&from.offset=2&limit=7");
  await assert.rejects(client.call("chat.rooms"), { code: "UNSUPPORTED", message: /needs a WebSocket/ });
});

test("a subscription that is refused before the first byte, or in the stream", async (t) => {
  const { client } = await startGateway(t, (one, response) => {
    const channels = one.url.searchParams.getAll("channel");
    if (channels.length === 1) {
      response.writeHead(404, { "content-type": "application/problem+json" });
      return response.end('{"code":"not_found","detail":"no such room"}');
    }
    open({ ...one, url: new URL("http://g/?channel=chat:a") }, response);
    response.write(event("error", { id: 3, error: { code: "ERROR_CODE_PERMISSION_DENIED", message: "private" } }));
  });
  const [a, b] = [client.channel("chat:a").subscribe(), client.channel("chat:b").subscribe()];
  await assert.rejects(b.subscribed(), { code: "PERMISSION_DENIED" });
  await a.subscribed();
  a.unsubscribe();
  await assert.rejects(client.channel("chat:c").subscribe().subscribed(), {
    code: "NOT_FOUND",
    message: "no such room",
  });
  assert.equal(client.state, "open");
});
