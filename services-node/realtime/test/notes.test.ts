// The notes API over HTTP: what a user can do with notes, and every way it is refused.
import assert from "node:assert/strict";
import { test } from "node:test";
import { startService } from "./support.ts";

test("a note is created, read, replaced and deleted", async (t) => {
  const { as } = await startService(t);
  const alice = as("alice");
  const created = await alice.call("POST", "/api/notes", { title: "Tea", text: "Green 🍵" });
  assert.equal(created.status, 201);
  assert.equal(created.headers.get("location"), `/api/notes/${created.body.id}`);
  assert.equal(created.headers.get("etag"), '"1"');
  const { id, created_at, updated_at, ...rest } = created.body;
  assert.deepEqual(rest, { title: "Tea", text: "Green 🍵", owner: "alice", readers: [], revision: 1 });
  assert.equal(created_at, updated_at);

  const replaced = await alice.put(id, "Tea", "Black", '"1"');
  assert.equal(replaced.status, 200);
  assert.equal(replaced.headers.get("etag"), '"2"');
  assert.deepEqual((await alice.get(`/api/notes/${id}`)).body, replaced.body);

  assert.equal((await alice.remove(id)).status, 204);
  const gone = await alice.get(`/api/notes/${id}`);
  assert.equal(gone.status, 404);
  assert.equal(gone.body.code, "not_found");
});

test("conditional requests: 304, 412, 428, and weak tags", async (t) => {
  const alice = (await startService(t)).as("alice");
  const { id } = await alice.create("Tea");
  const path = `/api/notes/${id}`;
  const content = { title: "Tea", text: "x" };
  const unchanged = await alice.get(path, { "if-none-match": 'W/"1", "7"' });
  assert.equal(unchanged.status, 304);
  assert.equal(unchanged.headers.get("etag"), '"1"');
  assert.equal((await alice.get(path, { "if-none-match": '"2"' })).status, 200);

  assert.equal((await alice.call("PUT", path, content)).body.code, "precondition_required");
  assert.equal((await alice.call("PUT", path, content, { "if-match": 'W/"1"' })).status, 412);
  assert.equal((await alice.put(id, "Tea", "x", "*")).status, 200);
  const stale = await alice.put(id, "Tea", "y", '"1"');
  assert.equal(stale.status, 412);
  assert.equal(stale.body.code, "stale_revision");
  assert.equal(stale.headers.get("etag"), '"2"');
  assert.equal((await alice.call("DELETE", path, undefined, { "if-match": '"1"' })).status, 412);
  assert.equal((await alice.call("DELETE", path, undefined, { "if-match": '"2"' })).status, 204);
});

test("others see a note only as its readers, and readers change nothing", async (t) => {
  const { as } = await startService(t);
  const [alice, bob, carol] = [as("alice"), as("bob"), as("carol")];
  const { id } = await alice.create("Plan", "secret");
  for (const call of [bob.get(`/api/notes/${id}`), bob.put(id, "x", "x", "*"), bob.remove(id), bob.share(id, [])]) {
    assert.equal((await call).status, 404);
  }
  const shared = await alice.share(id, ["bob", "alice"]);
  assert.deepEqual(shared.body.readers, ["bob"]);
  assert.equal(shared.body.revision, 2);
  assert.equal((await bob.get(`/api/notes/${id}`)).body.text, "secret");
  for (const call of [bob.put(id, "x", "x", "*"), bob.remove(id), bob.share(id, [])]) {
    assert.equal((await call).body.code, "permission_denied");
  }
  assert.equal((await carol.get(`/api/notes/${id}`)).status, 404);
  await alice.share(id, ["*"]);
  assert.equal((await carol.get(`/api/notes/${id}`)).status, 200);
  await alice.share(id, []);
  assert.equal((await carol.get(`/api/notes/${id}`)).status, 404);
  assert.equal((await bob.get(`/api/notes/${id}`)).status, 404);
});

test("a list is paged without gaps or repeats while notes come and go", async (t) => {
  const { as } = await startService(t);
  const [alice, bob] = [as("alice"), as("bob")];
  const ids: string[] = [];
  for (let n = 0; n < 7; n += 1) ids.push((await alice.create(`Note ${n}`, "text")).id);
  const foreign = await bob.create("Bob's own");
  const shared = await bob.create("Bob's shared");
  await bob.share(shared.id, ["alice", "*"]);

  const seen: string[] = [];
  let cursor: string | null = null;
  do {
    const page = await alice.get(`/api/notes?limit=3${cursor ? `&cursor=${cursor}` : ""}`);
    assert.equal(page.status, 200);
    assert.ok(page.body.items.length <= 3);
    for (const item of page.body.items) {
      assert.equal(item.text, undefined);
      seen.push(item.id);
    }
    cursor = page.body.next_cursor;
    if (seen.length === 3) await alice.create("Newer than the first page");
    if (seen.length === 3) await alice.remove(ids[0]!);
  } while (cursor);
  assert.deepEqual(seen, [shared.id, ...ids.slice(1).reverse()]);
  assert.ok(!seen.includes(foreign.id));
});

test("what is not valid is refused by field", async (t) => {
  const alice = (await startService(t)).as("alice");
  const fields = async (body: unknown) => {
    const answer = await alice.call("POST", "/api/notes", body);
    assert.equal(answer.status, 400, answer.text);
    assert.equal(answer.body.code, "invalid_argument");
    assert.match(answer.headers.get("content-type")!, /^application\/problem\+json/);
    return answer.body.errors.map((error: { field: string }) => error.field);
  };
  assert.deepEqual(await fields({ title: "x", text: "y", color: "red" }), ["color"]);
  assert.deepEqual((await fields({})).sort(), ["text", "title"]);
  assert.deepEqual(await fields({ title: 7, text: "y" }), ["title"]);
  assert.deepEqual(await fields({ title: "", text: "y" }), ["title"]);
  assert.deepEqual(await fields({ title: "x".repeat(201), text: "y" }), ["title"]);
  assert.deepEqual(await fields({ title: "x", text: "y".repeat(100_001) }), ["text"]);
  assert.deepEqual(await fields('{"title":"x","text":"\\ud800"}'), ["text"]);
  assert.deepEqual(await fields('{"title":"a\\u0000b","text":""}'), ["title"]);
  assert.deepEqual(await fields("{oops"), ["body"]);
  assert.deepEqual(await fields([]), ["body"]);
  // Characters are counted, not UTF-16 units.
  assert.equal((await alice.call("POST", "/api/notes", { title: "🍵".repeat(200), text: "" })).status, 201);
  const readers = async (value: unknown) => {
    const { id } = await alice.create("Tea");
    const answer = await alice.call("PUT", `/api/notes/${id}/readers`, { readers: value });
    return [answer.status, answer.body.errors?.[0].field];
  };
  assert.deepEqual(await readers(["bob", "a b"]), [400, "readers[1]"]);
  assert.deepEqual(await readers(["bob", "bob"]), [400, "readers"]);
  assert.deepEqual(await readers(Array.from({ length: 101 }, (_, n) => `user${n}`)), [400, "readers"]);
  assert.deepEqual(await readers(Array.from({ length: 100 }, (_, n) => `user${n}`)), [200, undefined]);
});

test("bad query strings, cursors, bodies, paths and methods have their own codes", async (t) => {
  const alice = (await startService(t)).as("alice");
  const code = async (method: string, path: string, body?: unknown, headers?: Record<string, string>) => {
    const answer = await alice.call(method, path, body, headers);
    assert.equal(answer.body.request_id, answer.headers.get("x-request-id"));
    return [answer.status, answer.body.code, answer.body.errors?.[0].field];
  };
  const invalid = (field: string) => [400, "invalid_argument", field];
  for (const limit of ["0", "101", "ten"])
    assert.deepEqual(await code("GET", `/api/notes?limit=${limit}`), invalid("limit"));
  assert.deepEqual(await code("GET", "/api/notes?page=2"), invalid("page"));
  const foreign = [
    Buffer.from("1:0").toString("base64url"),
    Buffer.from("2:5").toString("base64url"),
    "MTo1=",
    "%00",
    "x",
  ];
  for (const cursor of foreign)
    assert.deepEqual(await code("GET", `/api/notes?cursor=${cursor}`), invalid("cursor"), cursor);
  assert.deepEqual(await code("GET", "/api/nothing"), [404, "not_found", undefined]);
  assert.deepEqual(await code("PATCH", "/api/notes/some-id"), [405, "method_not_allowed", undefined]);
  const large = JSON.stringify({ title: "x", text: "y".repeat(2 << 20) });
  assert.deepEqual(await code("POST", "/api/notes", large), [413, "body_too_large", undefined]);
  const form = { "content-type": "text/plain" };
  assert.deepEqual(await code("POST", "/api/notes", "x", form), [415, "unsupported_media_type", undefined]);
  assert.deepEqual(await code("POST", "/api/notes", {}, { "request-timeout": "soon" }), invalid("request-timeout"));
  const note = { title: "x", text: "y" };
  const late = await code("POST", "/api/notes", note, { "request-timeout": "0" });
  assert.deepEqual(late, [504, "deadline_exceeded", undefined]);
  assert.deepEqual((await alice.get("/api/notes")).body.items, []);
});

test("request ids are taken over when they are sound, and made otherwise", async (t) => {
  const alice = (await startService(t)).as("alice");
  assert.equal((await alice.get("/healthz", { "x-request-id": "abc-1" })).headers.get("x-request-id"), "abc-1");
  assert.match((await alice.get("/healthz", { "x-request-id": "a b" })).headers.get("x-request-id")!, /^[0-9a-f]{32}$/);
});

test("the OpenAPI document describes every route of the API", async (t) => {
  const { url, app } = await startService(t);
  const document = (await (await fetch(`${url}/api/openapi.json`)).json()) as any;
  assert.deepEqual(Object.keys(document.paths).sort(), [
    "/api/calls/{method}",
    "/api/catalogue",
    "/api/catalogue/{id}",
    "/api/catalogue/{id}/interactions",
    "/api/changes",
    "/api/notes",
    "/api/notes/{id}",
    "/api/notes/{id}/readers",
    "/api/telemetry",
  ]);
  const body = document.paths["/api/notes"].post.requestBody.content["application/json"].schema;
  assert.equal(body.properties.title.maxLength, 200);
  assert.equal((await fetch(`${url}/readyz`)).status, 200);
  assert.match(await app.metrics.registry.metrics(), /realtime_event_loop_delay_seconds\{quantile="0.99"\}/);
});
