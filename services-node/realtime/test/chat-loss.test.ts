// What becomes of a message when the process is killed: what was committed is said once, whoever asks again.
import assert from "node:assert/strict";
import { test } from "node:test";
import { kill, spawnService } from "./child.ts";
import { startGateway } from "./gateway.ts";
import { eventually, temporaryFolder } from "./support.ts";

const ROUNDS = Number(process.env.LOSS_ROUNDS ?? 2);

test("killed between commit and answer, the message goes out when the gateway asks again, once on disk", async (t) => {
  const gateway = await startGateway(t);
  const folder = temporaryFolder(t);
  const saying = { type: "message", text: "Kept" };
  const first = await spawnService(t, folder, gateway.env.GATEWAY_INTERNAL_URL, "./kill-after-commit.mjs");
  const died = new Promise((resolve) => first.child.once("exit", (_, signal) => resolve(signal)));
  void gateway.publish("chat:lobby", saying, "alice", "the-key");
  assert.equal(await died, "SIGKILL");
  await eventually(() => gateway.links[0]!.ended, "the end of the link");
  const second = await spawnService(t, folder, gateway.env.GATEWAY_INTERNAL_URL);
  const again = await gateway.publish("chat:lobby", saying, "alice", "the-key", { again: true });
  assert.deepEqual([again.publish.text, again.duplicate, again.silent], ["Kept", true, false]);
  const { messages } = (await gateway.call("chat.history", { room: "lobby" }, "bob")).data;
  assert.deepEqual(
    messages.map((one: any) => [one.id, one.text]),
    [[again.data.id, "Kept"]],
  );
  assert.equal(await kill(second.child, "SIGTERM"), 0);
});

test(`${ROUNDS} rounds of SIGKILL under publications: what was accepted is there, and every key once`, {
  timeout: 120_000,
}, async (t) => {
  const gateway = await startGateway(t);
  const folder = temporaryFolder(t);
  const accepted = new Map<string, number>();
  let sent = 0;
  for (let round = 1; round <= ROUNDS; round += 1) {
    const { child } = await spawnService(t, folder, gateway.env.GATEWAY_INTERNAL_URL);
    await eventually(() => gateway.links.length === round, "the link");
    const before = accepted.size;
    for (let n = 0; n < 20; n += 1) {
      const key = `key-${sent++}`;
      const answer = gateway.publish("chat:lobby", { type: "message", text: key }, "alice", key);
      void answer.then(({ data }) => accepted.set(key, data.id));
    }
    await eventually(() => accepted.size >= before + 3, "some answers");
    await kill(child, "SIGKILL");
    await eventually(() => gateway.links.at(-1)!.ended, "the end of the link");
  }
  const { child } = await spawnService(t, folder, gateway.env.GATEWAY_INTERNAL_URL);
  const ids = new Set<number>();
  for (let n = 0; n < sent; n += 1) {
    const key = `key-${n}`;
    const { data } = await gateway.publish("chat:lobby", { type: "message", text: key }, "alice", key, { again: true });
    if (accepted.has(key)) assert.equal(data.id, accepted.get(key), key);
    ids.add(data.id);
  }
  const { messages } = (await gateway.call("chat.history", { room: "lobby", limit: 200 }, "bob")).data;
  assert.deepEqual([messages.length, ids.size], [sent, sent]);
  assert.equal(await kill(child, "SIGTERM"), 0);
});
