// Delivery of notes to Python: at once, in order, and whatever happens on the way.
import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import { decodeJwt, jwtVerify } from "jose";
import { eventually, SECRET, startPython, startService } from "./support.ts";

const FAST = { REALTIME_OUTBOX_MAX_BACKOFF_MS: "40" };

test("a note is indexed within a second, as it is, by this service", async (t) => {
  const python = await startPython(t);
  const alice = (await startService(t, python.env)).as("alice");
  const trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  const headers = { traceparent: `00-${trace}-00f067aa0ba902b7-01`, "x-request-id": "req-1" };
  const before = Date.now();
  const { body } = await alice.call("POST", "/api/notes", { title: "Tea", text: "Green" }, headers);
  const call = await eventually(() => python.latest(body.id), "the delivery");
  assert.ok(Date.now() - before < 1_000);
  const { $typeName: _, ...document } = call.document;
  assert.deepEqual(document, {
    id: `notes/${body.id}`,
    revision: 1n,
    collection: "notes",
    title: "Tea",
    text: "Green",
    uri: `/api/notes/${body.id}`,
    owner: "alice",
    readers: [],
  });
  assert.equal(call.metadata.get("x-request-id")[0], "req-1");
  assert.ok(String(call.metadata.get("traceparent")[0]).includes(trace));
  const token = String(call.metadata.get("authorization")[0]).replace("Bearer ", "");
  const expected = { issuer: "realtime", audience: "hybrid-gateway", algorithms: ["HS256"] };
  await jwtVerify(token, Buffer.from(SECRET), expected);
  const claims = decodeJwt(token);
  assert.ok(claims.exp! - claims.iat! <= 60);
});

test("readers and deletions follow, each with its revision", async (t) => {
  const python = await startPython(t);
  const { as, metric } = await startService(t, python.env);
  const alice = as("alice");
  const { id } = await alice.create("Tea", "Green");
  await alice.share(id, ["bob", "*"]);
  await eventually(() => python.latest(id)?.revision === 2);
  assert.deepEqual(python.latest(id)!.document.readers, ["bob", "*"]);
  await alice.remove(id);
  await eventually(() => python.latest(id)?.method === "delete");
  assert.equal(python.latest(id)!.revision, 3);
  await eventually(async () => (await metric("realtime_outbox_pending")) === 0);
});

test("revisions of a note never overtake each other, and superseded ones are left out", async (t) => {
  const python = await startPython(t);
  const { as } = await startService(t, python.env);
  const alice = as("alice");
  const notes = await Promise.all(Array.from({ length: 8 }, (_, n) => alice.create(`Note ${n}`, "0")));
  const writes = notes.map(async ({ id }) => {
    for (let n = 1; n <= 10; n += 1) assert.equal((await alice.put(id, "Note", `${n}`, `"${n}"`)).status, 200);
  });
  await Promise.all(writes);
  for (const { id } of notes) {
    await eventually(() => python.latest(id)?.revision === 11, "the last revision");
    const revisions = python.calls.filter((call) => call.id === `notes/${id}`).map((call) => call.revision);
    assert.deepEqual(
      revisions,
      [...new Set(revisions)].sort((a, b) => a - b),
    );
  }
});

test("while Python is away notes are kept; when it returns the latest of each is indexed", async (t) => {
  const first = await startPython(t);
  const { as, metric } = await startService(t, { ...first.env, ...FAST });
  const alice = as("alice");
  first.stop();
  const kept = await alice.create("Tea", "one");
  const gone = await alice.create("Coffee", "two");
  assert.equal((await alice.put(kept.id, "Tea", "three", '"1"')).status, 200);
  await alice.remove(gone.id);
  await eventually(async () => (await metric("realtime_outbox_failures_total")) > 0);
  assert.equal(await metric("realtime_outbox_pending"), 4);
  assert.ok((await metric("realtime_outbox_lag_seconds")) > 0);
  const second = await startPython(t, first.port);
  await eventually(async () => (await metric("realtime_outbox_pending")) === 0, "the catch-up");
  assert.equal(second.latest(kept.id)!.document.text, "three");
  assert.deepEqual(second.calls.map(({ method, revision }) => [method, revision]).sort(), [
    ["delete", 2],
    ["index", 2],
  ]);
});

test("what Python refuses for good is parked with its reason; later revisions still go", async (t) => {
  const python = await startPython(t);
  const { as, metric, folder, close } = await startService(t, { ...python.env, ...FAST });
  const alice = as("alice");
  python.behaviour.fail = ({ document }) =>
    document?.text === "poison" ? { code: status.INVALID_ARGUMENT, details: "not this one" } : undefined;
  const bad = await alice.create("Bad", "poison");
  const good = await alice.create("Good", "fine");
  await eventually(async () => (await metric("realtime_outbox_dead")) === 1, "the parked row");
  assert.equal(python.calls.filter((call) => call.id === `notes/${bad.id}`).length, 3);
  assert.ok(python.latest(good.id));
  assert.equal(await metric("realtime_outbox_pending"), 0);

  await alice.share(bad.id, ["bob"]);
  await eventually(async () => (await metric("realtime_outbox_pending")) === 0);
  assert.equal(await metric("realtime_outbox_dead"), 2);
  await close();
  const database = new DatabaseSync(join(folder, "realtime.db"));
  const dead = database.prepare("SELECT note_id, attempts, last_error FROM outbox WHERE state = 'dead'").all();
  database.close();
  for (const row of dead) {
    assert.equal(row.note_id, bad.id);
    assert.match(String(row.last_error), /not this one/);
  }

  const again = await startService(t, { ...python.env, REALTIME_DATA_DIR: folder });
  await again.as("alice").put(bad.id, "Bad", "cured", '"2"');
  await eventually(() => python.latest(bad.id)?.document?.text === "cured", "the later revision");
  await eventually(async () => (await again.metric("realtime_outbox_dead")) === 0, "the evidence to go");
});

test("rows outlive the process, and an outage never parks them", async (t) => {
  const python = await startPython(t);
  python.behaviour.fail = () => ({ code: status.UNAVAILABLE, details: "starting" });
  const before = await startService(t, { ...python.env, ...FAST, REALTIME_OUTBOX_POISON_ATTEMPTS: "1" });
  const { id } = await before.as("alice").create("Tea", "Green");
  await eventually(() => python.calls.length >= 4, "several attempts");
  assert.equal(await before.metric("realtime_outbox_dead"), 0);
  await before.close();
  python.calls.length = 0;
  python.behaviour.fail = () => undefined;
  await startService(t, { ...python.env, REALTIME_DATA_DIR: before.folder });
  await eventually(() => python.latest(id)?.document?.text === "Green", "the delivery after the restart");
});

test("a call that hangs ends at its deadline and is repeated", async (t) => {
  const python = await startPython(t);
  const { as, metric } = await startService(t, { ...python.env, ...FAST, REALTIME_AI_TIMEOUT_MS: "100" });
  let hung = 0;
  python.behaviour.delay = () => (hung++ === 0 ? new Promise(() => {}) : undefined);
  const { id } = await as("alice").create("Tea", "Green");
  await eventually(async () => (await metric("realtime_outbox_pending")) === 0, "the second delivery");
  assert.equal(hung, 2);
  assert.equal(python.latest(id)!.revision, 1);
  assert.equal(await metric("realtime_outbox_failures_total", { status: "DEADLINE_EXCEEDED" }), 1);
});
