// The catalogue: films copied from Python, recommendations for the person within a bounded time,
// and clicks that are durable in Python or refused.
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { status } from "@grpc/grpc-js";
import { eventually, startPython, startService, temporaryFolder } from "./support.ts";

/** A service that has copied the catalogue. */
async function copied(t: TestContext, env: Record<string, string> = {}) {
  const python = await startPython(t);
  const service = await startService(t, { ...python.env, ...env });
  const alice = service.as("alice");
  await eventually(async () => (await alice.get("/api/catalogue")).status === 200, "the copy");
  return { python, service, alice };
}

const titles = (page: { body: any }) => page.body.items.map((film: { title: string }) => film.title);

test("films come in pages, most liked first, by words of the title and by genre", async (t) => {
  const { alice } = await copied(t);
  const first = await alice.get("/api/catalogue?limit=3");
  assert.deepEqual(titles(first), ["The Shawshank Redemption", "Toy Story", "Toy Story 2"]);
  assert.deepEqual([first.body.total, first.body.next_cursor], [4, "3"]);
  const second = await alice.get(`/api/catalogue?limit=3&cursor=${first.body.next_cursor}`);
  assert.deepEqual([titles(second), second.body.next_cursor], [["Untitled"], null]);
  assert.equal(second.body.items[0].year, null);
  assert.deepEqual(titles(await alice.get("/api/catalogue?query=STORY%20toy")), ["Toy Story", "Toy Story 2"]);
  assert.deepEqual(titles(await alice.get("/api/catalogue?genre=Drama")), ["The Shawshank Redemption"]);
  assert.deepEqual(titles(await alice.get("/api/catalogue?query=nothing")), []);
  assert.deepEqual((await alice.get("/api/catalogue/1")).body.title, "Toy Story");
});

test("a click is recorded for the person, and the next page's recommendations know it", async (t) => {
  const { python, service, alice } = await copied(t);
  const before = (await alice.get("/api/catalogue")).body.recommendations;
  assert.deepEqual([before.status, before.based_on, before.items[0].reason], ["fresh", 0, "popular"]);
  assert.equal(before.items[0].because, null);
  const click = await alice.call("POST", "/api/catalogue/1/interactions", { kind: "like", key: "k1" });
  assert.deepEqual([click.status, click.body], [200, { key: "k1", repeated: false }]);
  const after = (await alice.get("/api/catalogue")).body.recommendations;
  assert.deepEqual([after.based_on, after.items[0].reason, after.items[0].because], [1, "liked_together", "1"]);
  assert.ok(!after.items.some((film: { id: string }) => film.id === "1"));
  const [recorded] = python.recommend.recorded;
  assert.deepEqual([recorded!.itemId, recorded!.kind, recorded!.person], ["1", 2, "alice"]);
  const bob = (await service.as("bob").get("/api/catalogue")).body.recommendations;
  assert.equal(bob.based_on, 0);
  assert.ok((await service.metric("realtime_catalogue_fresh_total")) >= 3);
});

test("a click with the same key counts once; one without gets a key", async (t) => {
  const { python, alice } = await copied(t);
  const send = (body: object) => alice.call("POST", "/api/catalogue/1/interactions", body);
  assert.equal((await send({ kind: "click", key: "k" })).body.repeated, false);
  assert.equal((await send({ kind: "click", key: "k" })).body.repeated, true);
  const { key } = (await send({ kind: "dismiss" })).body;
  assert.match(key, /^[0-9a-f-]{36}$/);
  assert.equal(python.recommend.recorded.length, 2);
});

test("a page waits for slow recommendations no longer than its bound, and says that they are missing", async (t) => {
  const { python, service, alice } = await copied(t, { REALTIME_RECOMMEND_TIMEOUT_MS: "150" });
  const held = Promise.withResolvers<void>();
  t.after(() => held.resolve());
  python.recommend.behaviour.delay = () => held.promise;
  const started = performance.now();
  const page = await alice.get("/api/catalogue");
  assert.ok(performance.now() - started < 2_000);
  assert.equal(page.status, 200);
  assert.equal(page.body.items.length, 4);
  assert.deepEqual(page.body.recommendations, { status: "missing", reason: "too_late", items: [] });
  assert.equal(await service.metric("realtime_catalogue_missing_total", { reason: "too_late" }), 1);
});

test("without Python pages go on, recommendations are missing, and a click is refused, not lost in silence", async (t) => {
  const { python, alice } = await copied(t);
  python.stop();
  const page = await eventually(async () => {
    const answer = await alice.get("/api/catalogue");
    return answer.body.recommendations.status === "missing" ? answer : undefined;
  }, "the missing recommendations");
  assert.deepEqual([page.status, page.body.items.length, page.body.recommendations.items], [200, 4, []]);
  const click = await alice.call("POST", "/api/catalogue/1/interactions", { kind: "click" });
  assert.deepEqual([click.status, click.body.code, click.headers.get("retry-after")], [503, "unavailable", "1"]);
});

test("a restart without Python still has the films", async (t) => {
  const folder = temporaryFolder(t);
  const { python, service } = await copied(t, { REALTIME_DATA_DIR: folder });
  await service.close();
  python.stop();
  const again = await startService(t, { REALTIME_DATA_DIR: folder });
  const page = await again.as("alice").get("/api/catalogue?query=toy");
  assert.deepEqual([titles(page), page.body.recommendations.status], [["Toy Story", "Toy Story 2"], "missing"]);
});

test("a first start without Python says that the catalogue is not there, and gets it when Python comes", async (t) => {
  const python = await startPython(t);
  python.recommend.behaviour.fail = () => ({ code: status.UNAVAILABLE, details: "away" });
  const alice = (await startService(t, python.env)).as("alice");
  const refused = await alice.get("/api/catalogue");
  assert.deepEqual([refused.status, refused.body.code], [503, "unavailable"]);
  python.recommend.behaviour.fail = () => undefined;
  await eventually(async () => (await alice.get("/api/catalogue")).status === 200, "the copy");
});

test("what is wrong is named", async (t) => {
  const { alice } = await copied(t);
  const field = async (path: string) => {
    const { status: code, body } = await alice.get(path);
    return [code, body.errors?.[0].field];
  };
  assert.deepEqual(await field("/api/catalogue?limit=0"), [400, "limit"]);
  assert.deepEqual(await field("/api/catalogue?limit=101"), [400, "limit"]);
  assert.deepEqual(await field("/api/catalogue?cursor=-1"), [400, "cursor"]);
  assert.deepEqual(await field(`/api/catalogue?query=${"x".repeat(257)}`), [400, "query"]);
  assert.deepEqual(await field("/api/catalogue?colour=red"), [400, "colour"]);
  assert.equal((await alice.get("/api/catalogue/none")).body.code, "not_found");
  const wrong = await alice.call("POST", "/api/catalogue/1/interactions", { kind: "stare" });
  assert.deepEqual([wrong.status, wrong.body.errors[0].field], [400, "kind"]);
  const missing = await alice.call("POST", "/api/catalogue/none/interactions", { kind: "click" });
  assert.equal(missing.status, 404);
  assert.equal((await alice.call("DELETE", "/api/catalogue/1")).status, 405);
});
