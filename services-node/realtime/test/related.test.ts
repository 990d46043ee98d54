// Related passages: asked for when an edit settles, for everybody who edits, and never pushed
// to somebody who may not read them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import { eventually, open, startPython, startService } from "./support.ts";

const passage = (documentId: string, text: string) => ({
  documentId,
  revision: 1n,
  collection: "project",
  title: "Title",
  uri: "/uri",
  passage: text,
  offset: 0,
  score: 0.5,
});

test("every editor gets passages that fit the text, once the edit has settled", async (t) => {
  const python = await startPython(t);
  python.behaviour.search = async () => [passage("project/README.md", "About tea.")];
  const { url, as, metric } = await startService(t, python.env);
  const { id } = await as("alice").create("Tea", "Green");
  await as("alice").share(id, ["bob", "*"]);
  const [a, b, reader] = [
    await open(t, url, "alice", id),
    await open(t, url, "bob", id),
    await open(t, url, "carol", id),
  ];
  a.text.insert(5, " tea is green");
  const expected = { document_id: "project/README.md", title: "Title", uri: "/uri", passage: "About tea.", score: 0.5 };
  for (const editor of [a, b]) assert.deepEqual((await editor.related()).passages, [expected]);
  const search = python.searches.at(-1)!;
  assert.equal(search.query, "Green tea is green");
  assert.equal(search.excludeDocumentId, `notes/${id}`);
  assert.deepEqual([...search.visibleTo].sort(), ["alice", "bob"]);
  assert.deepEqual(reader.messages, []);
  assert.ok((await metric("realtime_related_pushes_total")) >= 1);
});

test("somebody who joins while Python answers is asked for as well, before anything is pushed", async (t) => {
  const python = await startPython(t);
  const { url, as } = await startService(t, python.env);
  const { id } = await as("alice").create("Tea", "Green");
  await as("alice").share(id, ["bob"]);
  let release = () => {};
  const held = new Promise<void>((resolve) => (release = resolve));
  python.behaviour.search = async ({ visibleTo }) => {
    if (!visibleTo.includes("bob")) {
      await held;
      return [passage("project/secret", "Only for Alice.")];
    }
    return [passage("project/shared", "For both.")];
  };
  const a = await open(t, url, "alice", id);
  a.text.insert(5, " tea");
  await eventually(() => python.searches.length === 1, "the first search");
  const b = await open(t, url, "bob", id);
  release();
  for (const editor of [a, b]) assert.equal((await editor.related()).passages[0].document_id, "project/shared");
  assert.deepEqual(
    python.searches.map((search) => [...search.visibleTo].sort()),
    [["alice"], ["alice", "bob"]],
  );
  assert.ok(![...a.messages, ...b.messages].some((message) => JSON.stringify(message).includes("secret")));
});

test("a note whose sharing was withdrawn is left out, even if Python does not know it yet", async (t) => {
  const python = await startPython(t);
  const { url, as } = await startService(t, python.env);
  const alice = as("alice");
  const [{ id }, open_, closed] = [
    await alice.create("Tea", "Green"),
    await alice.create("Open"),
    await alice.create("Closed"),
  ];
  for (const note of [id, open_.id, closed.id]) await alice.share(note, ["bob"]);
  await alice.share(closed.id, []);
  python.behaviour.search = async () => [
    passage(`notes/${closed.id}`, "private"),
    passage(`notes/${open_.id}`, "fine"),
  ];
  const a = await open(t, url, "alice", id);
  const b = await open(t, url, "bob", id);
  b.text.insert(0, "Hot ");
  for (const editor of [a, b]) {
    const { passages } = await editor.related();
    assert.deepEqual(
      passages.map((found: { document_id: string }) => found.document_id),
      [`notes/${open_.id}`],
    );
  }
});

test("without Python editing goes on, and the failure is counted", async (t) => {
  const python = await startPython(t);
  python.behaviour.search = async () => {
    throw { code: status.UNAVAILABLE, details: "away" };
  };
  const { url, as, metric } = await startService(t, python.env);
  const { id } = await as("alice").create("Tea", "Green");
  const a = await open(t, url, "alice", id);
  a.text.insert(5, " tea");
  await eventually(async () => (await metric("realtime_related_failures_total")) === 1);
  python.behaviour.search = async () => [passage("project/back", "again")];
  a.text.insert(9, " again");
  assert.equal((await a.related()).passages[0].document_id, "project/back");
  assert.equal((await as("alice").get(`/api/notes/${id}`)).body.text, "Green tea again");
});
