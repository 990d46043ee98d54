// Chat over the link: rooms and who may be in them, messages that are kept before they are accepted, judgements in time
// or later, and an assistant whose answers can be watched and cancelled.
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { ErrorCode } from "@hybrid/contracts/channels";
import { decodeJwt } from "jose";
import { type Gateway, startGateway } from "./gateway.ts";
import { eventually, startService, temporaryFolder } from "./support.ts";

/** A service that is linked, and short ways to speak in its rooms. */
async function chat(t: TestContext, env: Record<string, string> = {}) {
  const gateway = await startGateway(t);
  // A busy machine is not late; tests that are about lateness say so.
  const patient = { REALTIME_CHANNELS_MAX_BACKOFF_MS: "50", REALTIME_CHAT_REVIEW_MS: "5000" };
  const service = await startService(t, { ...gateway.env, ...patient, ...env });
  await gateway.link();
  return { gateway, service, ...speech(gateway) };
}

let keys = 0;

function speech(gateway: Gateway) {
  const say = (text: string, as = "alice", key = `k${++keys}`, room = "lobby") =>
    gateway.publish(`chat:${room}`, { type: "message", text }, as, key);
  const change = (data: object, as = "alice", room = "lobby") =>
    gateway.publish(`chat:${room}`, data, as, `k${++keys}`);
  const history = async (as = "alice", more: object = {}) =>
    (await gateway.call("chat.history", { room: "lobby", ...more }, as)).data;
  return { say, change, history };
}

test("rooms: made, joined, left; a private one is its members'", async (t) => {
  const { gateway } = await chat(t);
  const call = (name: string, data: object, as: string) => gateway.call(`chat.${name}`, data, as);
  assert.equal((await gateway.subscribe("chat:lobby", "bob")).data.owner, "service:realtime");
  const room = { room: "plans", private: true };
  assert.deepEqual((await call("create", room, "alice")).data, { room: "plans", owner: "alice", private: true });
  assert.equal((await call("create", room, "alice")).data.room, "plans");
  assert.equal((await call("create", { room: "plans" }, "bob")).error, ErrorCode.CONFLICT);
  const refused = await gateway.subscribe("chat:plans", "bob");
  assert.deepEqual([refused.error, refused.reason], [ErrorCode.PERMISSION_DENIED, "private_room"]);
  for (const name of ["typing", "reads", "answers"]) {
    assert.equal((await gateway.subscribe(`${name}:plans`, "bob")).error, ErrorCode.PERMISSION_DENIED);
  }
  assert.equal((await call("join", { room: "plans" }, "bob")).error, ErrorCode.PERMISSION_DENIED);
  assert.equal((await call("history", { room: "plans" }, "bob")).error, ErrorCode.PERMISSION_DENIED);
  await call("invite", { room: "plans", subject: "bob" }, "alice");
  assert.equal((await gateway.subscribe("chat:plans", "bob")).data.member, true);
  assert.equal((await call("invite", { room: "plans", subject: "carol" }, "bob")).error, ErrorCode.PERMISSION_DENIED);
  const listed = (await call("rooms", {}, "bob")).data.rooms.map((one: { room: string }) => one.room);
  assert.deepEqual(listed, ["plans", "lobby"]);
  assert.equal((await call("members", { room: "plans" }, "bob")).data.members.length, 2);
  await call("leave", { room: "plans" }, "bob");
  const revoked = await eventually(async () => {
    const all = (await gateway.link()).revoked;
    return all.length === 4 ? all : undefined;
  }, "the revocations");
  assert.deepEqual(revoked.map(({ subject, channel }) => [subject, channel])[0], ["bob", "chat:plans"]);
  // They have no answer: over the next link they are sent again.
  (await gateway.link()).break();
  await eventually(() => gateway.links.length === 2 && gateway.links[1]!.revoked.length === 4, "them again");
  assert.equal((await gateway.subscribe("chat:plans", "bob")).error, ErrorCode.PERMISSION_DENIED);
  assert.equal((await call("leave", { room: "plans" }, "alice")).error, ErrorCode.CONFLICT);
  assert.equal((await gateway.subscribe("chat:nowhere", "bob")).error, ErrorCode.NOT_FOUND);
  const nobody = await gateway.subscribe("chat:lobby", "anonymous", { kind: "anonymous" });
  assert.equal(nobody.error, ErrorCode.UNAUTHENTICATED);
});

test("a message is judged, kept and given its id; edits and deletions say what changed", async (t) => {
  const { gateway, say, change, history } = await chat(t);
  const said = await say("Hello there");
  const { id } = said.data;
  assert.deepEqual([said.publish.type, said.publish.author, said.publish.review], ["message", "alice", "passed"]);
  assert.equal((await say("darn", "bob")).publish.review, "flagged");
  const edited = await change({ type: "edit", id, text: "Hello you" });
  assert.deepEqual([edited.publish.type, edited.publish.text], ["edited", "Hello you"]);
  assert.equal((await change({ type: "edit", id, text: "no" }, "bob")).error, ErrorCode.PERMISSION_DENIED);
  assert.equal((await change({ type: "delete", id }, "bob")).error, ErrorCode.PERMISSION_DENIED);
  assert.equal((await change({ type: "edit", id: 999, text: "no" })).error, ErrorCode.NOT_FOUND);
  assert.deepEqual((await change({ type: "delete", id })).publish, { type: "deleted", id });
  assert.equal((await change({ type: "edit", id, text: "back" })).error, ErrorCode.CONFLICT);
  const { messages } = await history();
  assert.deepEqual(
    messages.map((one: any) => [one.text, one.state]),
    [
      ["", "deleted"],
      ["darn", "visible"],
    ],
  );
  const wrong = await change({ type: "message", text: "", colour: "red" });
  assert.equal(wrong.error, ErrorCode.INVALID);
  assert.match(wrong.message, /colour is not known; text must NOT have fewer than 1 characters|text must NOT/);
  assert.equal((await change({ type: "shout" })).error, ErrorCode.INVALID);
  // What was not allowed was not judged, either.
  assert.equal(gateway.python.of("moderate").length, 3);
});

test("the judgement's call goes on with the trace of the command, for this service", async (t) => {
  const { gateway, say } = await chat(t);
  await say("Hello");
  const { metadata } = gateway.python.of("moderate")[0]!;
  assert.match(String(metadata.get("traceparent")[0]), /^00-0af7651916cd43dd8448eb211c80319c-/);
  const token = String(metadata.get("authorization")[0]).replace("Bearer ", "");
  assert.equal(decodeJwt(token).iss, "realtime");
  assert.deepEqual(metadata.get("x-hybrid-on-behalf-of"), []);
});

test("an offensive message is refused, with a reason, and not kept", async (t) => {
  const { say, history } = await chat(t);
  const refused = await say("you idiot");
  assert.deepEqual([refused.error, refused.reason], [ErrorCode.PERMISSION_DENIED, "offensive"]);
  assert.deepEqual((await history()).messages, []);
});

test("the same key is one message, at the same time and after a restart", async (t) => {
  const folder = temporaryFolder(t);
  const { gateway, service, say, history } = await chat(t, { REALTIME_DATA_DIR: folder });
  const [first, second] = await Promise.all([say("once", "alice", "same"), say("once", "alice", "same")]);
  assert.equal(first.data.id, second.data.id);
  await service.close();
  await startService(t, { ...gateway.env, REALTIME_DATA_DIR: folder });
  await eventually(() => gateway.links.length === 2, "the next link");
  const again = await say("once", "alice", "same");
  // The gateway asks only where it does not have the key: so it goes out, with the same id.
  const { data, publish, duplicate, silent } = again;
  assert.deepEqual([data, publish.id], [{ id: first.data.id, repeated: true }, first.data.id]);
  assert.deepEqual([duplicate, silent], [true, false]);
  const other = await say("once", "bob", "same");
  assert.notEqual(other.data.id, first.data.id);
  assert.equal((await history()).messages.length, 2);
});

test("a key older than the gateway's history is a duplicate, and goes out no more", async (t) => {
  const { say } = await chat(t);
  const first = await say("once", "alice", "old");
  t.mock.timers.enable({ apis: ["Date"], now: Date.now() + 301_000 });
  const again = await say("once", "alice", "old");
  assert.deepEqual([again.duplicate, again.silent, again.data.id], [true, true, first.data.id]);
});

test("a late judgement publishes as pending within the bound, then withdraws or confirms", async (t) => {
  const { gateway, service, say, history } = await chat(t, { REALTIME_CHAT_REVIEW_MS: "100" });
  const held = Promise.withResolvers<void>();
  t.after(() => held.resolve());
  gateway.python.behaviour.before = () => held.promise;
  // Nothing lets these calls go on before both are published.
  const [bad, good] = await Promise.all([say("you idiot"), say("good morning")]);
  assert.deepEqual([bad.publish.review, good.publish.review], ["pending", "pending"]);
  held.resolve();
  const withdrawn = await gateway.found("chat:lobby", (data) => data.type === "withdrawn");
  assert.equal(withdrawn.data.id, bad.data.id);
  const reviewed = await gateway.found("chat:lobby", (data) => data.type === "reviewed");
  assert.deepEqual(reviewed.data, { type: "reviewed", id: good.data.id, review: "passed" });
  const { messages } = await history();
  const now = new Map(messages.map((one: any) => [one.id, [one.state, one.text]]));
  assert.deepEqual(
    [now.get(bad.data.id), now.get(good.data.id)],
    [
      ["withdrawn", ""],
      ["visible", "good morning"],
    ],
  );
  assert.equal(await service.metric("realtime_chat_reviews_total", { outcome: "late" }), 2);
});

test("without Python messages go on as pending, and a restart does not forget to review them", async (t) => {
  const folder = temporaryFolder(t);
  const { gateway, service, say } = await chat(t, { REALTIME_DATA_DIR: folder });
  gateway.python.behaviour.before = async () => {
    throw { code: 14, details: "away" };
  };
  const { data, publish } = await say("you idiot");
  assert.equal(publish.review, "pending");
  await service.close();
  gateway.python.behaviour.before = async () => {};
  await startService(t, { ...gateway.env, REALTIME_DATA_DIR: folder });
  const withdrawn = await gateway.found("chat:lobby", (one) => one.type === "withdrawn");
  assert.equal(withdrawn.data.id, data.id);
});

test("history comes in pages, older or newer, and read markers only go forward", async (t) => {
  const { gateway, say, history } = await chat(t);
  for (let n = 1; n <= 7; n += 1) await say(`message ${n}`);
  const texts = (page: any) => page.messages.map((one: any) => Number(one.text.split(" ")[1]));
  const newest = await history("bob", { limit: 3 });
  assert.deepEqual([texts(newest), newest.more], [[5, 6, 7], true]);
  const older = await history("bob", { limit: 10, before: newest.messages[0].id });
  assert.deepEqual([texts(older), older.more], [[1, 2, 3, 4], false]);
  const missed = await history("bob", { limit: 2, after: older.messages[1].id });
  assert.deepEqual([texts(missed), missed.more], [[3, 4], true]);
  const read = (id: number) => gateway.call("chat.read", { room: "lobby", id }, "bob");
  assert.equal((await read(5)).data.read_to, 5);
  assert.equal((await read(3)).data.read_to, 5);
  assert.equal((await read(99)).error, ErrorCode.INVALID);
  const marker = await gateway.found("reads:lobby", (data) => data.id === 5);
  assert.deepEqual([marker.latestKey, marker.data.reader], ["bob", "bob"]);
  assert.equal((await gateway.subscribe("chat:lobby", "bob")).data.read_to, 5);
});

test("typing is passed on with who it is, and ends when they leave", async (t) => {
  const { gateway } = await chat(t);
  const typed = await gateway.publish("typing:lobby", { typing: true }, "alice", "k");
  assert.deepEqual(typed.publish, { user: "alice", typing: true });
  (await gateway.link()).left(1n, "chat:lobby", "alice");
  const gone = await gateway.found("typing:lobby", (data) => data.typing === false);
  assert.equal(gone.data.user, "alice");
});

test("the assistant answers from documents, in the open, and the answer becomes a message", async (t) => {
  const { gateway, say, history } = await chat(t);
  const asked = await say("@assistant what is the gateway written in?");
  assert.equal(asked.data.answer, `a${asked.data.id}`);
  const done = await gateway.found("answers:lobby", (data) => data.status === "done");
  assert.deepEqual([done.latestKey, done.data.asked_by, done.data.model], [asked.data.answer, "alice", "extractive"]);
  const message = await gateway.found("chat:lobby", (data) => data.answer?.to === asked.data.id);
  assert.deepEqual([message.data.author, message.data.text], ["service:ai", "The gateway is written in Rust."]);
  assert.equal(message.data.answer.citations[0].document_id, "docs/README.md");
  assert.equal(message.data.id, done.data.message);
  assert.equal(gateway.python.of("answer")[0]!.request.question, "what is the gateway written in?");
  assert.equal((await history()).messages.length, 2);
});

test("where documents hold nothing a model writes, with at most ten updates a second", async (t) => {
  const { gateway, say } = await chat(t);
  gateway.python.behaviour.words = () => Array.from({ length: 100 }, (_, n) => `w${n}`);
  gateway.python.behaviour.pace = () => new Promise((resolve) => setTimeout(resolve, 3));
  const started = performance.now();
  const asked = await say("@assistant tell me a story");
  const done = await gateway.found("answers:lobby", (data) => data.status === "done");
  const took = performance.now() - started;
  assert.deepEqual([done.data.model, done.data.notice], ["small", "A small model."]);
  assert.match(done.data.text, /^w0 w1 .* w99 $/);
  const updates = gateway.emittedOn("answers:lobby").filter((one) => one.latestKey === asked.data.answer);
  // The first, one each 100 ms, and the end.
  assert.ok(updates.length >= 3 && updates.length <= took / 100 + 3, `${updates.length} updates in ${took} ms`);
  const lengths = updates.map(({ data }) => data.text.length);
  assert.deepEqual(
    lengths,
    lengths.toSorted((a, b) => a - b),
  );
});

test("who asked cancels an answer, and Python's work stops; nobody else can", async (t) => {
  const { gateway, service, say, history } = await chat(t);
  const held = Promise.withResolvers<void>();
  t.after(() => held.resolve());
  let words = 0;
  gateway.python.behaviour.pace = () => (++words > 2 ? held.promise : Promise.resolve());
  const { answer, id } = (await say("@assistant tell me a story")).data;
  await gateway.found("answers:lobby", (data) => data.text.startsWith("I was"));
  assert.equal((await gateway.call("chat.cancel", { answer }, "bob")).error, ErrorCode.PERMISSION_DENIED);
  assert.deepEqual((await gateway.call("chat.cancel", { answer }, "alice")).data, { answer });
  await eventually(() => gateway.python.of("chat")[0]!.cancelled, "the end of Python's work");
  await gateway.found("answers:lobby", (data) => data.id === answer && data.status === "cancelled");
  assert.equal((await gateway.call("chat.cancel", { answer }, "alice")).error, ErrorCode.NOT_FOUND);
  assert.deepEqual(
    (await history()).messages.map((one: any) => one.id),
    [id],
  );
  assert.equal(await service.metric("realtime_chat_answers_total", { outcome: "cancelled" }), 1);
});

test("a question that is deleted is not answered, and three may wait for each person", async (t) => {
  const { gateway, say, change } = await chat(t, { REALTIME_CHAT_ANSWERS: "1" });
  const held = Promise.withResolvers<void>();
  t.after(() => held.resolve());
  gateway.python.behaviour.before = (method) => (method === "answer" ? held.promise : Promise.resolve());
  const first = await say("@assistant one");
  await eventually(() => gateway.python.of("answer").length === 1, "the first question");
  const second = await say("@assistant two");
  await say("@assistant three");
  assert.equal((await say("@assistant four")).error, ErrorCode.LIMIT_EXCEEDED);
  await say("@assistant is for Bob", "bob");
  await change({ type: "delete", id: second.data.id });
  await change({ type: "delete", id: first.data.id });
  await eventually(() => gateway.python.of("answer")[0]!.cancelled, "the end of Python's work");
  held.resolve();
  await gateway.found("answers:lobby", (data) => data.asked_by === "bob" && data.status === "done");
  const asked = gateway.python.of("answer").map((one) => one.request.question);
  assert.deepEqual(asked.toSorted(), ["is for Bob", "one", "three"]);
});

test("a question outlives a restart; without Python it is tried again, and given up with a reason", async (t) => {
  const folder = temporaryFolder(t);
  const { gateway, service, say } = await chat(t, { REALTIME_DATA_DIR: folder });
  const held = Promise.withResolvers<void>();
  t.after(() => held.resolve());
  gateway.python.behaviour.before = (method) => (method === "answer" ? held.promise : Promise.resolve());
  await say("@assistant what is the gateway?");
  await eventually(() => gateway.python.of("answer").length === 1, "the question");
  await service.close();
  gateway.python.behaviour.before = async (method) => {
    if (method === "answer" && gateway.python.of("answer").length < 3) throw { code: 14, details: "away" };
  };
  await startService(t, { ...gateway.env, REALTIME_DATA_DIR: folder });
  await gateway.found("answers:lobby", (data) => data.status === "waiting" && data.reason === "unavailable");
  await gateway.found("answers:lobby", (data) => data.status === "done");
  gateway.python.behaviour.before = async (method) => {
    if (method === "answer") throw { code: 14, details: "away" };
  };
  const { answer } = (await say("@assistant and now?")).data;
  const failed = await gateway.found("answers:lobby", (data) => data.id === answer && data.status === "failed");
  assert.equal(failed.data.reason, "unavailable");
});

test("methods can be called over plain HTTP, with the same access", async (t) => {
  const { service } = await chat(t);
  const call = (method: string, body: object, as: string) => service.as(as).call("POST", `/api/calls/${method}`, body);
  const made = await call("chat.create", { room: "http", private: true }, "alice");
  assert.deepEqual([made.status, made.body.room], [200, "http"]);
  const refused = await call("chat.history", { room: "http" }, "bob");
  assert.deepEqual(
    [refused.status, refused.body.code, refused.body.reason],
    [403, "permission_denied", "private_room"],
  );
  const wrong = await call("chat.history", { room: "NO", limit: 0 }, "alice");
  assert.deepEqual([wrong.status, wrong.body.errors.map((one: any) => one.field)], [400, ["room", "limit"]]);
  const gone = await call("chat.shout", {}, "alice");
  assert.deepEqual([gone.status, /chat\.history/.test(gone.body.detail)], [404, true]);
});
