// @grpc/grpc-js: native gRPC, which passes as it is.
import { strict as assert } from "node:assert";
import { credentials, makeGenericClientConstructor, Metadata, status } from "@grpc/grpc-js";
import { decode, encode, sample, token, url } from "./contract.mjs";
import { check, failure } from "./report.mjs";

const define = (service, name, requestStream, responseStream) => ({
  path: `/lab.v1.${service}/${name}`,
  requestStream,
  responseStream,
  requestSerialize: encode,
  requestDeserialize: decode,
  responseSerialize: encode,
  responseDeserialize: decode,
});

const Client = makeGenericClientConstructor({
  get: define("LabService", "Get", false, false),
  echo: define("LabService", "Echo", false, false),
  watch: define("LabService", "Watch", false, true),
  converse: define("LabService", "Converse", true, true),
  gather: define("WireService", "Gather", true, false),
  brief: define("TimeoutService", "Watch", false, true),
});

async function collect(stream, found = []) {
  for await (const message of stream) found.push(message.number);
  return found;
}

export async function run() {
  const client = new Client(new URL(url).host, credentials.createInsecure());
  const unary = (name, message, metadata = new Metadata()) =>
    new Promise((resolve, reject) => {
      client[name](message, metadata, (error, answer) => (error ? reject(error) : resolve(answer)));
    });
  await check("grpc-js: unary", async () => {
    const metadata = new Metadata();
    metadata.set("authorization", `Bearer ${token}`);
    assert.equal((await unary("echo", sample("hello", 7), metadata)).number, 7);
  });
  await check("grpc-js: errors", async () => {
    const refused = await failure(unary("get", sample("refuse")));
    assert.deepEqual([refused.code, refused.details], [status.INVALID_ARGUMENT, "not good"]);
    assert.equal((await failure(unary("echo", sample("x")))).code, status.UNAUTHENTICATED);
  });
  await check("grpc-js: streams", async () => {
    assert.equal((await collect(client.watch(sample("t", 100)))).length, 100);
    const found = [];
    const failed = await failure(collect(client.watch(sample("fail", 3)), found));
    assert.deepEqual([found, failed.code], [[0, 1, 2], status.UNAVAILABLE]);
    const gathered = await new Promise((resolve, reject) => {
      const call = client.gather((error, answer) => (error ? reject(error) : resolve(answer)));
      for (const text of ["a", "b"]) call.write(sample(text));
      call.end();
    });
    assert.deepEqual(gathered.list, ["a", "b"]);
    const call = client.converse();
    call.write(sample("x", 1));
    for await (const answer of call) {
      if (answer.number < 5) call.write(sample("x", answer.number + 1));
      else call.end();
    }
  });
  await check("grpc-js: what fails between messages has its status, what fails inside one is INTERNAL", async () => {
    for (const [method, text, code] of [
      ["watch", "huge", status.RESOURCE_EXHAUSTED],
      ["watch", "cut", status.INTERNAL],
      ["brief", "torn", status.INTERNAL],
      ["brief", "silent", status.DEADLINE_EXCEEDED],
    ]) {
      const found = [];
      const failed = await failure(collect(client[method](sample(text, 1)), found));
      assert.deepEqual([text, failed.code], [text, code]);
      if (text !== "cut") assert.equal(found.length, 1, text);
    }
  });
  client.close();
}
