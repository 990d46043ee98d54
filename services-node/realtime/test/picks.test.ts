// Recommendations are pushed to a person as they click, to that person alone.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ErrorCode } from "@hybrid/contracts/channels";
import { startGateway } from "./gateway.ts";
import { eventually, startService } from "./support.ts";

test("a click pushes fresh recommendations to who clicked, and nobody else may look", async (t) => {
  const gateway = await startGateway(t);
  const service = await startService(t, gateway.env);
  const alice = service.as("alice@example.org");
  await eventually(async () => (await alice.get("/api/catalogue")).status === 200, "the copy");
  const own = `picks:~${Buffer.from("alice@example.org").toString("base64url")}`;
  const click = await alice.call("POST", "/api/catalogue/1/interactions", { kind: "like", key: "k" });
  assert.equal(click.status, 200);
  const { latestKey, data } = await gateway.found(own, () => true);
  assert.deepEqual([latestKey, data.status, data.based_on, data.items[0].because], ["films", "fresh", 1, "1"]);
  assert.equal((await gateway.subscribe(own, "alice@example.org")).error, undefined);
  const refused = await gateway.subscribe(own, "bob");
  assert.deepEqual([refused.error, /picks:bob/.test(refused.message)], [ErrorCode.PERMISSION_DENIED, true]);
  assert.equal((await gateway.subscribe("picks:bob", "bob")).error, undefined);
});

test("without Python nothing is pushed in the place of what is shown", async (t) => {
  const gateway = await startGateway(t);
  const service = await startService(t, gateway.env);
  const alice = service.as("alice");
  await eventually(async () => (await alice.get("/api/catalogue")).status === 200, "the copy");
  let clicks = 0;
  gateway.recommend.behaviour.fail = () => (++clicks > 1 ? { code: 14, details: "away" } : undefined);
  await alice.call("POST", "/api/catalogue/1/interactions", { kind: "like", key: "k" });
  await eventually(async () => (await service.metric("realtime_catalogue_missing_total")) === 1, "the failed try");
  assert.deepEqual(gateway.emittedOn("picks:alice"), []);
});
