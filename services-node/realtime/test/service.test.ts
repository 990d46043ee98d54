// The service as a whole: configuration, identity, migrations, and how it stops.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { splice } from "../src/collab/text.ts";
import { ConfigError, readConfig } from "../src/config.ts";
import { MIGRATIONS } from "../src/db/migrations.ts";
import { openDatabase } from "../src/db/open.ts";
import { follow, identity, open, SECRET, startService, temporaryFolder } from "./support.ts";

test("a bad value names its key, the value and what is allowed", () => {
  const message = (env: Record<string, string>) => {
    try {
      readConfig({ SERVICE_SECRET: SECRET, ...env });
    } catch (error) {
      assert.ok(error instanceof ConfigError);
      return error.message;
    }
    return "";
  };
  assert.equal(message({}), "");
  assert.match(message({ LOG_FORMAT: "xml" }), /^LOG_FORMAT: "xml" is not allowed; allowed: json \| human$/);
  assert.match(message({ REALTIME_LISTEN: "8091" }), /^REALTIME_LISTEN: "8091" .* host:port/);
  assert.match(message({ REALTIME_LISTEN: "a:70000" }), /^REALTIME_LISTEN/);
  assert.match(message({ REALTIME_COLLAB_SETTLE_MS: "soon" }), /^REALTIME_COLLAB_SETTLE_MS: "soon" .* 10 to 60000/);
  assert.match(message({ GATEWAY_INTERNAL_URL: "https://x/" }), /^GATEWAY_INTERNAL_URL: "https:\/\/x\/" .* http:\/\//);
  assert.match(message({ REALTIME_SETLE: "1" }), /^REALTIME_SETLE="1" is not known; allowed: .*REALTIME_LISTEN/);
  const short = message({ SERVICE_SECRET: "short-secret" });
  assert.match(short, /^SERVICE_SECRET: a secret of 12 bytes .* at least 32 bytes/);
  assert.ok(!short.includes("short-secret"));
  assert.throws(() => readConfig({}), /SERVICE_SECRET is not set/);
});

test("a secret may come from a file", (t) => {
  const file = join(temporaryFolder(t), "secret");
  writeFileSync(file, `${SECRET}\n`);
  assert.equal(readConfig({ SERVICE_SECRET_FILE: file }).secret, SECRET);
  assert.throws(() => readConfig({ SERVICE_SECRET_FILE: file, SERVICE_SECRET: SECRET }), /are both set/);
  assert.throws(() => readConfig({ SERVICE_SECRET_FILE: `${file}.no` }), /SERVICE_SECRET_FILE: .* \(ENOENT\)/);
});

test("an identity that is missing, forged, expired or meant for others is refused", async (t) => {
  const { url } = await startService(t);
  const answer = async (headers: Record<string, string>) => {
    const response = await fetch(`${url}/api/notes`, { headers });
    const body = (await response.json()) as { code?: string };
    return [response.status, body.code, response.headers.get("www-authenticate")];
  };
  const refused = [401, "unauthenticated", "Bearer"];
  const token = async (...args: Parameters<typeof identity>) =>
    answer({ "x-hybrid-identity": await identity(...args) });
  assert.deepEqual(await answer({}), refused);
  assert.deepEqual(await answer({ "x-hybrid-identity": "alice" }), refused);
  assert.deepEqual(await token("alice", { secret: "some other secret that is also 32 bytes" }), refused);
  assert.deepEqual(await token("alice", { exp: -6 }), refused);
  assert.deepEqual(await token("alice", { iss: "realtime" }), refused);
  assert.deepEqual(await token("alice", { aud: "ai" }), refused);
  assert.deepEqual(await token("alice", { kind: "robot" }), refused);
  assert.deepEqual(await token("*"), refused);
  const [head, body] = (await identity("alice")).split(".");
  const unsigned = `${Buffer.from('{"alg":"none"}').toString("base64url")}.${body}.`;
  assert.deepEqual(await answer({ "x-hybrid-identity": unsigned }), refused);
  assert.deepEqual(await answer({ "x-hybrid-identity": `${head}.${body}.AAAA` }), refused);
  assert.deepEqual(await token("x", { kind: "anonymous" }), refused);
  assert.equal((await token("service:ai", { kind: "service" }))[0], 403);
  assert.equal((await token("alice", { exp: -3 }))[0], 200);
  assert.equal((await token("alice"))[0], 200);
});

test("a verified identity is not taken for longer than it is valid", async (t) => {
  const { url } = await startService(t);
  const headers = { "x-hybrid-identity": await identity("alice", { exp: -2 }) };
  const statusNow = async () => (await fetch(`${url}/api/notes`, { headers })).status;
  // With the leeway it has two to three seconds left.
  assert.equal(await statusNow(), 200);
  t.mock.timers.enable({ apis: ["Date"], now: Date.now() + 4_000 });
  assert.equal(await statusNow(), 401);
});

test("an older database is brought up to date with its notes", async (t) => {
  const folder = temporaryFolder(t);
  const old = new DatabaseSync(join(folder, "realtime.db"));
  old.exec(MIGRATIONS[0]!);
  old.exec(`INSERT INTO notes (id, title, text, owner, readers, revision, created_at, updated_at)
            VALUES ('00000000-0000-4000-8000-000000000001', 'Old', 'text', 'alice', '[]', 3, 'then', 'then');
            INSERT INTO note_access (subject, note_seq) VALUES ('alice', 1);
            PRAGMA user_version = 1`);
  old.close();
  const { as, url } = await startService(t, { REALTIME_DATA_DIR: folder });
  const { items } = (await as("alice").get("/api/notes")).body;
  assert.deepEqual([items.length, items[0].title, items[0].revision], [1, "Old", 3]);
  assert.equal((await open(t, url, "alice", items[0].id)).text.toString(), "text");
});

test("a database from a newer program is left alone", (t) => {
  const folder = temporaryFolder(t);
  openDatabase(folder).close();
  const database = new DatabaseSync(join(folder, "realtime.db"));
  assert.equal(database.prepare("PRAGMA user_version").get()!.user_version, MIGRATIONS.length);
  database.exec("PRAGMA user_version = 99");
  database.close();
  assert.throws(() => openDatabase(folder), /schema 99/);
});

test("a data folder has one process", async (t) => {
  const { folder } = await startService(t);
  assert.throws(() => openDatabase(folder), /in use by another process/);
});

test("a transaction that fails leaves nothing, and tells nobody", (t) => {
  const { database, close } = openDatabase(temporaryFolder(t));
  t.after(close);
  const told: string[] = [];
  const insert = database.statement(
    "outbox",
    "INSERT INTO outbox (note_id, operation, revision, created_at) VALUES ('n', 'index', 1, 1)",
  );
  assert.throws(() =>
    database.transaction(() => {
      database.afterCommit(() => told.push("commit"));
      database.afterRollback(() => told.push("rollback"));
      database.transaction(() => insert.run());
      throw new Error("no");
    }),
  );
  assert.deepEqual(told, ["rollback"]);
  assert.equal(database.statement<{ n: number }>("count", "SELECT COUNT(*) AS n FROM outbox").get()!.n, 0);
});

test("a splice turns one text into another and never cuts a pair", () => {
  const samples = ["", "a", "aa", "aXa", "🍵", "🍶", "a🍵b", "a🍶b", "🍵🍵", "🍵", "hello", "help", "🍵🍶🍵"];
  for (const from of samples) {
    for (const to of samples) {
      const { start, removed, inserted } = splice(from, to);
      assert.equal(from.slice(0, start) + inserted + from.slice(start + removed), to);
      assert.ok(inserted.isWellFormed() && from.slice(start, start + removed).isWellFormed(), `${from} → ${to}`);
    }
  }
});

test("a stop with open streams and documents is quick and keeps everything", async (t) => {
  const service = await startService(t, { REALTIME_COLLAB_SETTLE_MS: "60000" });
  const alice = service.as("alice");
  const { id } = await alice.create("Tea", "Green");
  const feed = await follow(t, service.url, "alice");
  const a = await open(t, service.url, "alice", id);
  a.text.insert(5, " tea");
  await a.acknowledged();
  const before = Date.now();
  await service.close();
  assert.ok(Date.now() - before < 3_000);
  assert.equal(feed.status, 200);
  const again = await startService(t, { REALTIME_DATA_DIR: service.folder });
  assert.equal((await again.as("alice").get(`/api/notes/${id}`)).body.text, "Green tea");
});
