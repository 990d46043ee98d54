// The change feed: live, resumed, and only for those it concerns.
import assert from "node:assert/strict";
import { createServer, get, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { ChangeFeed } from "../src/changes/feed.ts";
import { ChangeRepository } from "../src/changes/repository.ts";
import { openDatabase } from "../src/db/open.ts";
import { createMetrics } from "../src/metrics.ts";
import { eventually, follow, identity, startService, temporaryFolder } from "./support.ts";

test("changes reach owner and readers live, and nobody else", async (t) => {
  const { url, as, metric } = await startService(t);
  const alice = as("alice");
  const [toAlice, toBob, toCarol] = await Promise.all(["alice", "bob", "carol"].map((name) => follow(t, url, name)));
  for (const feed of [toAlice, toBob, toCarol]) await feed!.find(({ event }) => event === "ready");
  assert.equal(await metric("realtime_sse_clients"), 3);
  const { id } = await alice.create("Tea");
  await alice.share(id, ["bob"]);
  await alice.put(id, "Tea", "Green", '"2"');
  await alice.remove(id);
  await toAlice!.find(({ event }) => event === "removed");
  await toBob!.find(({ event }) => event === "removed");
  const told = (feed: typeof toAlice) =>
    feed!.events.map(({ event, data }) => [event, data.kind, data.revision]).slice(1);
  const later = [
    ["changed", "shared", 2],
    ["changed", "updated", 3],
    ["removed", "deleted", 4],
  ];
  assert.deepEqual(told(toAlice), [["changed", "created", 1], ...later]);
  assert.deepEqual(told(toBob), later);
  assert.deepEqual(told(toCarol), []);
  assert.deepEqual(new Set(toBob!.events.slice(1).map(({ data }) => data.id)), new Set([id]));
});

test("who loses access is told so, and who keeps it by another way is not", async (t) => {
  const { url, as } = await startService(t);
  const alice = as("alice");
  const { id } = await alice.create("Tea");
  await alice.share(id, ["bob", "*"]);
  const [toBob, toCarol] = await Promise.all([follow(t, url, "bob"), follow(t, url, "carol")]);
  await Promise.all([toBob, toCarol].map((feed) => feed.find(({ event }) => event === "ready")));
  await alice.share(id, ["bob"]);
  assert.equal((await toCarol.find(({ event }) => event === "removed")).data.kind, "withdrawn");
  await toBob.find(({ data }) => data.revision === 3);
  await alice.share(id, []);
  await toBob.find(({ event }) => event === "removed");
  await alice.put(id, "Tea", "only for me", '"4"');
  const after = await alice.create("Public");
  await alice.share(after.id, ["*"]);
  await toCarol.find(({ data }) => data.id === after.id);
  await toBob.find(({ data }) => data.id === after.id);
  const told = (feed: typeof toBob) => feed.events.filter(({ data }) => data.id === id).map(({ event }) => event);
  assert.deepEqual(told(toBob), ["changed", "removed"]);
  assert.deepEqual(told(toCarol), ["removed"]);

  // The same is told to those who come later, from the table.
  const replay = await follow(t, url, "carol", 1);
  await replay.find(({ data }) => data.id === after.id);
  assert.deepEqual(told(replay), ["changed", "removed"]);
});

test("a client that comes back gets what it missed: no gap, no repeat, also across a restart", async (t) => {
  const first = await startService(t);
  const alice = first.as("alice");
  const live = await follow(t, first.url, "alice");
  await live.find(({ event }) => event === "ready");
  const { id } = await alice.create("Tea");
  const seen = await live.find(({ event }) => event === "changed");
  live.close();
  for (let n = 1; n <= 5; n += 1) await alice.put(id, "Tea", `${n}`, `"${n}"`);
  await first.close();
  const second = await startService(t, { REALTIME_DATA_DIR: first.folder });
  // Writes go on while the client catches up.
  const writes = (async () => {
    for (let n = 6; n <= 15; n += 1) await second.as("alice").put(id, "Tea", `${n}`, `"${n}"`);
  })();
  const resumed = await follow(t, second.url, "alice", Number(seen.id));
  await writes;
  await resumed.find(({ data }) => data.revision === 16);
  const revisions = resumed.events.filter(({ event }) => event === "changed").map(({ data }) => data.revision);
  assert.deepEqual(
    revisions,
    Array.from({ length: 15 }, (_, n) => n + 2),
  );
});

test("a long replay is whole, whatever was written meanwhile", async (t) => {
  const { url, as, app } = await startService(t);
  const alice = as("alice");
  const { id } = await alice.create("Tea");
  for (let n = 1; n <= 600; n += 1) {
    const headers = { "if-match": "*", "x-hybrid-identity": await identity("alice") };
    const payload = { title: "Tea", text: `${n}` };
    const answer = await app.http.inject({ method: "PUT", url: `/api/notes/${id}`, headers, payload });
    assert.equal(answer.statusCode, 200);
  }
  const replay = await follow(t, url, "alice", 0);
  await alice.put(id, "Tea", "last", '"601"');
  await replay.find(({ data }) => data.revision === 602);
  const revisions = replay.events.slice(1).map(({ data }) => data.revision);
  assert.deepEqual(
    revisions,
    Array.from({ length: 602 }, (_, n) => n + 1),
  );
});

test("an id that is no longer kept, or never was, is answered with a reset", async (t) => {
  const first = await startService(t, { REALTIME_CHANGES_RETAINED: "3" });
  const alice = first.as("alice");
  for (let n = 0; n < 6; n += 1) await alice.create(`Note ${n}`);
  await first.close();
  const { url, metric } = await startService(t, { REALTIME_DATA_DIR: first.folder, REALTIME_CHANGES_RETAINED: "3" });
  await eventually(async () => (await follow(t, url, "alice", 2)).find(({ event }) => event === "reset"));
  const kept = await follow(t, url, "alice", 3);
  await kept.find(({ id }) => id === "6");
  assert.deepEqual(
    kept.events.map(({ id }) => id),
    ["3", "4", "5", "6"],
  );
  const future = await follow(t, url, "alice", 99);
  assert.equal((await future.find(({ event }) => event === "reset")).id, "6");
  assert.equal(await metric("realtime_sse_resets_total"), 2);
});

test("a malformed id is a problem, not a stream", async (t) => {
  const alice = (await startService(t)).as("alice");
  for (const path of ["/api/changes?last_event_id=abc", "/api/changes?last_event_id=-1"]) {
    const answer = await alice.get(path);
    assert.deepEqual([answer.status, answer.body.errors[0].field], [400, "last_event_id"]);
  }
  assert.equal((await alice.get("/api/changes?since=1")).body.errors[0].field, "since");
});

test("heartbeats keep a quiet stream alive and move its position on", async (t) => {
  const { url, as } = await startService(t, { REALTIME_SSE_HEARTBEAT_MS: "50" });
  const toBob = await follow(t, url, "bob");
  await as("alice").create("Not for Bob");
  await eventually(() => toBob.comments.some((comment) => comment === ": keep-alive\nid: 1"));
  assert.equal(toBob.events.length, 1);
});

test("a client that does not read is closed; the others don't notice", async (t) => {
  const { database, close } = openDatabase(temporaryFolder(t));
  const metrics = createMetrics();
  const config = { retained: 1000, heartbeatMs: 60_000, bufferBytes: 64 << 10 };
  const feed = new ChangeFeed(new ChangeRepository(database), config, metrics);
  const server = createServer((request, response) => {
    response.writeHead(200);
    void feed.connect(String(request.headers.subject), response, undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    feed.close();
    server.close();
    metrics.stop();
    close();
  });
  const { port } = server.address() as AddressInfo;
  const connect = (subject: string) =>
    new Promise<IncomingMessage>((resolve) => get({ port, headers: { subject }, agent: false }, resolve));
  const [slow, quick] = await Promise.all([connect("alice"), connect("bob")]);
  let received = 0;
  quick.on("data", (chunk: Buffer) => (received += chunk.length));
  slow.on("error", () => {});
  await eventually(() => feed.size === 2);
  const slowClients = async () => (await metrics.sseSlowClients.get()).values[0]?.value ?? 0;
  let seq = 0;
  // The kernel's buffers take a few megabytes before ours grow.
  while ((await slowClients()) === 0 && seq < 500_000) {
    for (let n = 0; n < 100; n += 1) {
      const change = { kind: "updated", note_id: "n", revision: ++seq, at: "now", removedFrom: [] } as const;
      feed.publish({ ...change, seq, removedFrom: [], visibleTo: ["alice", "bob"] });
    }
    await new Promise(setImmediate);
  }
  assert.equal(await slowClients(), 1);
  await eventually(() => feed.size === 1);
  await eventually(() => received > seq * 50, "the other client's events");
});

test("more clients than allowed are turned away", async (t) => {
  const { url, as } = await startService(t, { REALTIME_SSE_MAX_CLIENTS: "1" });
  const only = await follow(t, url, "alice");
  const answer = await as("bob").get("/api/changes");
  assert.deepEqual([answer.status, answer.body.code, answer.headers.get("retry-after")], [503, "overloaded", "1"]);
  only.close();
  await eventually(async () => (await follow(t, url, "bob")).status === 200);
});

test("a graceful stop ends the streams", async (t) => {
  const { url, close } = await startService(t);
  const feed = await follow(t, url, "alice");
  await feed.find(({ event }) => event === "ready");
  await close();
  await eventually(() => feed.state.ended);
});
