// Accepted means kept: the service is killed at random points under writes, and everything
// that it acknowledged is there afterwards.
import assert from "node:assert/strict";
import { test } from "node:test";
import { kill, spawnService } from "./child.ts";
import { edit, eventually, open, startPython, temporaryFolder, userOf } from "./support.ts";

const ROUNDS = Number(process.env.LOSS_ROUNDS ?? 6);

test(`${ROUNDS} rounds of SIGKILL under writes lose nothing that was acknowledged`, {
  timeout: 60_000 + ROUNDS * 10_000,
}, async (t) => {
  const folder = temporaryFolder(t);
  const python = await startPython(t);
  const kept = new Map<string, string>();
  const deleted = new Set<string>();
  let shared: string | undefined;
  let edited = "";
  let count = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    const { child, url } = await spawnService(t, folder, python.env.GATEWAY_INTERNAL_URL);
    const alice = userOf(url, "alice");
    shared ??= (await alice.create("Shared")).id;

    const a = await open(t, url, "alice", shared);
    assert.ok(a.text.toString().startsWith(edited), `round ${round}: acknowledged edits are there`);
    edited = a.text.toString();
    for (const [id, text] of kept) {
      const { body } = await alice.get(`/api/notes/${id}`);
      // What was sent but not answered may or may not have happened.
      assert.ok(Number(body.text) >= Number(text), `round ${round}: note ${id}`);
      kept.set(id, body.text);
    }
    for (const id of deleted) assert.equal((await alice.get(`/api/notes/${id}`)).status, 404);

    const stop = { now: false };
    const writer = (async () => {
      for (;;) {
        const { status, body } = await alice.call("POST", "/api/notes", { title: "Note", text: `${count++}` });
        if (status === 201) kept.set(body.id, body.text);
        const answer = await alice.put(body.id, "Note", `${count++}`, '"1"');
        if (answer.status === 200) kept.set(body.id, answer.body.text);
        const [victim] = kept.keys();
        if (count % 6 === 0 && victim) {
          kept.delete(victim);
          if ((await alice.remove(victim)).status === 204) deleted.add(victim);
        }
      }
    })().catch(() => (stop.now = true));
    const editor = (async () => {
      while (!stop.now) {
        a.text.insert(a.text.length, `${count++} `);
        const sent = a.text.toString();
        while (a.provider.hasUnsyncedChanges && !stop.now) await new Promise((resolve) => setImmediate(resolve));
        if (!a.provider.hasUnsyncedChanges) edited = sent;
      }
    })();
    await new Promise((resolve) => setTimeout(resolve, 100 + Math.random() * 300));
    // Nothing may reach a successor: what was not acknowledged is the client's to send again.
    a.websocketProvider.connect = async () => undefined;
    await kill(child, "SIGKILL");
    await Promise.all([writer, editor]);
    a.close();
  }
  const { child, url } = await spawnService(t, folder, python.env.GATEWAY_INTERNAL_URL);
  const alice = userOf(url, "alice");
  const last = await open(t, url, "alice", shared!);
  assert.ok(last.text.toString().startsWith(edited));
  await eventually(async () => (await alice.get(`/api/notes/${shared}`)).body.text === last.text.toString());
  for (const [id, text] of kept) assert.ok(Number((await alice.get(`/api/notes/${id}`)).body.text) >= Number(text));
  for (const id of deleted) assert.equal((await alice.get(`/api/notes/${id}`)).status, 404);
  // Python ends with exactly what is stored.
  await eventually(async () => /realtime_outbox_pending 0\n/.test(await (await fetch(`${url}/metrics`)).text()));
  for (const id of deleted) assert.equal(python.latest(id)?.method, "delete");
  for (const id of kept.keys()) {
    assert.equal(python.latest(id)?.document.text, (await alice.get(`/api/notes/${id}`)).body.text);
  }
  assert.ok(kept.size + deleted.size > ROUNDS && edited.length > ROUNDS, "something was written");
  const refused = await edit(t, url, "mallory", shared!);
  assert.equal(await refused.refused(), "not-found");
  assert.equal(await kill(child, "SIGTERM"), 0);
});
