// Collaborative documents, through real Yjs clients: who may edit, what is kept, and how
// document and note follow each other.
import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { WebSocket } from "ws";
import { edit, eventually, identity, open, startService } from "./support.ts";

test("two editors share the note's text, and the note follows", async (t) => {
  const { url, as, metric } = await startService(t);
  const alice = as("alice");
  const { id } = await alice.create("Tea", "Green");
  await alice.share(id, ["bob"]);
  const [a, b] = await Promise.all([open(t, url, "alice", id), open(t, url, "bob", id)]);
  assert.equal(a.text.toString(), "Green");
  a.text.insert(5, " tea");
  b.text.insert(0, "Hot ");
  await eventually(() => a.text.toString() === "Hot Green tea" && b.text.toString() === "Hot Green tea");
  const note = await eventually(async () => {
    const { body } = await alice.get(`/api/notes/${id}`);
    return body.text === "Hot Green tea" && body;
  });
  assert.ok(note.revision >= 3);
  assert.equal(await metric("realtime_collab_connections"), 2);
});

test("strangers are refused with a reason; those of a public note only read", async (t) => {
  const { url, as, metric } = await startService(t);
  const alice = as("alice");
  const { id } = await alice.create("Tea", "Green");
  assert.equal(await (await edit(t, url, "carol", id)).refused(), "not-found");
  assert.equal(await (await edit(t, url, "alice", "00000000-0000-4000-8000-000000000000")).refused(), "not-found");
  assert.equal(await (await edit(t, url, "alice", "anything")).refused(), "not-found");
  await alice.share(id, ["*"]);
  const carol = await open(t, url, "carol", id);
  const owner = await open(t, url, "alice", id);
  assert.equal(carol.provider.authorizedScope, "readonly");
  carol.text.insert(0, "Not ");
  owner.text.insert(5, " tea");
  await eventually(() => carol.text.toString().endsWith("Green tea"));
  await owner.acknowledged();
  assert.equal(owner.text.toString(), "Green tea");
  assert.equal(await metric("realtime_collab_refused_total", { reason: "not-found" }), 3);
});

test("the upgrade itself needs an identity, the right path and a running service", async (t) => {
  const { url } = await startService(t);
  const attempt = async (path: string, headers: Record<string, string>) => {
    const socket = new WebSocket(`${url.replace("http", "ws")}${path}`, { headers });
    t.after(() => socket.terminate());
    return new Promise<[number, string]>((resolve, reject) => {
      socket.on("unexpected-response", (_, response) => {
        let body = "";
        response
          .on("data", (chunk) => (body += chunk))
          .on("end", () => resolve([response.statusCode!, JSON.parse(body).code]));
      });
      socket.on("open", () => reject(new Error("was opened"))).on("error", () => {});
    });
  };
  const named = async (...args: Parameters<typeof identity>) => ({ "x-hybrid-identity": await identity(...args) });
  assert.deepEqual(await attempt("/collab", {}), [401, "unauthenticated"]);
  assert.deepEqual(await attempt("/collab", await named("alice", { aud: "ai" })), [401, "unauthenticated"]);
  assert.deepEqual(await attempt("/collab", await named("anonymous", { kind: "anonymous" })), [401, "unauthenticated"]);
  assert.deepEqual(await attempt("/collab", await named("service:ai", { kind: "service" })), [
    403,
    "permission_denied",
  ]);
  assert.deepEqual(await attempt("/elsewhere", await named("alice")), [404, "not_found"]);
});

test("what was edited is there after everybody left, and after a restart", async (t) => {
  const first = await startService(t);
  const alice = first.as("alice");
  const { id } = await alice.create("Tea");
  const a = await open(t, first.url, "alice", id);
  for (let n = 0; n < 200; n += 1) a.text.insert(a.text.length, `${n} `);
  await a.acknowledged();
  const written = a.text.toString();
  a.close();
  await eventually(async () => (await first.metric("realtime_collab_documents")) === 0, "the document to unload");
  const again = await open(t, first.url, "alice", id);
  assert.equal(again.text.toString(), written);
  again.text.insert(0, "!");
  await again.acknowledged();
  await first.close();
  const second = await startService(t, { REALTIME_DATA_DIR: first.folder });
  const b = await open(t, second.url, "alice", id);
  assert.equal(b.text.toString(), `!${written}`);
  assert.equal((await second.as("alice").get(`/api/notes/${id}`)).body.text, `!${written}`);
});

test("a document that cannot be loaded is refused and stays as it is", async (t) => {
  const first = await startService(t);
  const alice = first.as("alice");
  const { id } = await alice.create("Tea", "Green");
  const healthy = await alice.create("Coffee", "Black");
  const a = await open(t, first.url, "alice", id);
  a.text.insert(0, "Hot ");
  await a.acknowledged();
  a.close();
  await first.close();
  const read = () => {
    const database = new DatabaseSync(join(first.folder, "realtime.db"));
    const rows = [
      ...database.prepare("SELECT hex(snapshot), checksum FROM collab_documents WHERE note_id = ?").all(id),
      ...database.prepare("SELECT hex(payload), checksum FROM collab_updates WHERE note_id = ? ORDER BY seq").all(id),
    ];
    database.close();
    return rows;
  };
  const database = new DatabaseSync(join(first.folder, "realtime.db"));
  database.prepare("UPDATE collab_documents SET snapshot = substr(snapshot, 1, length(snapshot) - 3)").run();
  database.close();
  const damaged = read();

  const second = await startService(t, { REALTIME_DATA_DIR: first.folder });
  const b = await edit(t, second.url, "alice", id);
  b.text.insert(0, "a blank document's edit");
  assert.equal(await b.refused(), "document-damaged");
  b.close();
  // The note itself stays usable, and other documents open.
  const { body } = await second.as("alice").get(`/api/notes/${id}`);
  assert.equal(body.text, "Hot Green");
  assert.equal((await second.as("alice").put(id, "Tea", "Cold", `"${body.revision}"`)).status, 200);
  assert.equal((await open(t, second.url, "alice", healthy.id)).text.toString(), "Black");
  assert.ok((await second.metric("realtime_collab_failures_total", { operation: "load" })) >= 1);
  await second.close();
  assert.deepEqual(read(), damaged);
});

test("an update that cannot be stored is not acknowledged, and comes again", async (t) => {
  const { url, as, app, metric, folder } = await startService(t);
  const alice = as("alice");
  const { id } = await alice.create("Tea", "Green");
  const a = await open(t, url, "alice", id);
  await alice.share(id, ["bob"]);
  const b = await open(t, url, "bob", id);
  const blocker = new DatabaseSync(join(folder, "realtime.db"));
  t.after(() => blocker.isOpen && blocker.close());
  blocker.exec(`CREATE TRIGGER refuse BEFORE INSERT ON collab_updates BEGIN SELECT RAISE(ABORT, 'disk full'); END`);
  a.text.insert(5, " tea");
  await eventually(async () => (await metric("realtime_collab_failures_total", { operation: "append" })) > 0);
  assert.equal(a.provider.hasUnsyncedChanges, true);
  assert.equal(b.text.toString(), "Green");
  blocker.exec("DROP TRIGGER refuse");
  await a.acknowledged();
  await eventually(() => b.text.toString() === "Green tea", "the other editor");
  assert.equal(app.http.server.listening, true);
});

test("a PUT while the document is open reaches the editors as a minimal change", async (t) => {
  const { url, as } = await startService(t);
  const alice = as("alice");
  const { id } = await alice.create("Tea", "Green tea 🍵 is hot");
  const a = await open(t, url, "alice", id);
  const deltas: unknown[] = [];
  a.text.observe((event) => deltas.push(event.delta));
  const { body } = await alice.get(`/api/notes/${id}`);
  assert.equal((await alice.put(id, "Tea", "Green tea 🍶 is hot", `"${body.revision}"`)).status, 200);
  await eventually(() => a.text.toString() === "Green tea 🍶 is hot");
  assert.deepEqual(deltas, [[{ retain: 10 }, { delete: 2 }, { insert: "🍶" }]]);
});

test("a PUT sees edits that have not settled as a newer revision", async (t) => {
  const { url, as } = await startService(t, { REALTIME_COLLAB_SETTLE_MS: "60000" });
  const alice = as("alice");
  const { id } = await alice.create("Tea", "Green");
  const a = await open(t, url, "alice", id);
  a.text.insert(5, " tea");
  await a.acknowledged();
  const stale = await alice.put(id, "Tea", "Black", '"1"');
  assert.equal(stale.status, 412);
  const { body } = await alice.get(`/api/notes/${id}`);
  assert.deepEqual([body.text, body.revision], ["Green tea", 2]);
  assert.equal((await alice.put(id, "Tea", "Black tea", '"2"')).status, 200);
  await eventually(() => a.text.toString() === "Black tea");
});

test("a PUT while nobody edits is what the next editor sees", async (t) => {
  const { url, as, metric } = await startService(t);
  const alice = as("alice");
  const { id } = await alice.create("Tea", "Green");
  (await open(t, url, "alice", id)).close();
  await eventually(async () => (await metric("realtime_collab_documents")) === 0);
  assert.equal((await alice.put(id, "Tea", "Black", '"1"')).status, 200);
  assert.equal((await open(t, url, "alice", id)).text.toString(), "Black");
});

test("withdrawn access and deletion close the document for those concerned", async (t) => {
  const { url, as } = await startService(t);
  const alice = as("alice");
  const { id } = await alice.create("Tea", "Green");
  await alice.share(id, ["bob", "carol"]);
  const [a, b, c] = await Promise.all(["alice", "bob", "carol"].map((name) => open(t, url, name, id)));
  await alice.share(id, ["carol"]);
  await eventually(() => b!.closes.includes("access-withdrawn"));
  a!.text.insert(0, "Hot ");
  await eventually(() => c!.text.toString() === "Hot Green");
  assert.equal(b!.text.toString(), "Green");
  // Carol stays, but only as a reader.
  await alice.share(id, ["*"]);
  c!.text.insert(0, "Not ");
  a!.text.insert(0, "Very ");
  await eventually(async () => (await alice.get(`/api/notes/${id}`)).body.text === "Very Hot Green");
  await alice.remove(id);
  await eventually(() => a!.closes.includes("note-deleted") && c!.closes.includes("note-deleted"));
  a!.text.insert(0, "ghost ");
  assert.equal(await (await edit(t, url, "alice", id)).refused(), "not-found");
  assert.equal((await alice.get(`/api/notes/${id}`)).status, 404);
});

test("a text that is too long for a note stays in the document, and the editors are told", async (t) => {
  const { url, as } = await startService(t);
  const alice = as("alice");
  const { id } = await alice.create("Tea", "Green");
  const a = await open(t, url, "alice", id);
  a.text.insert(0, "x".repeat(100_001));
  await eventually(() => a.messages.some((message) => message.code === "text_too_long"));
  assert.equal((await alice.get(`/api/notes/${id}`)).body.text, "Green");
  a.text.delete(0, 100_001);
  a.text.insert(0, "Iced ");
  await eventually(async () => (await alice.get(`/api/notes/${id}`)).body.text === "Iced Green");
});
