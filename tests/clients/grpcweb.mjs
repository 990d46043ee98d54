// Google's grpc-web, which speaks through a browser's XMLHttpRequest: here xhr2's.
import { strict as assert } from "node:assert";
import grpcweb from "grpc-web";
import xhr2 from "xhr2";
import { decode, encode, Sample, sample, token, url } from "./contract.mjs";
import { check, failure } from "./report.mjs";

globalThis.XMLHttpRequest = xhr2.XMLHttpRequest;

const method = (name, type) =>
  new grpcweb.MethodDescriptor(`/lab.v1.LabService/${name}`, type, Sample, Sample, encode, decode);
const get = method("Get", grpcweb.MethodType.UNARY);
const echo = method("Echo", grpcweb.MethodType.UNARY);
const watch = method("Watch", grpcweb.MethodType.SERVER_STREAMING);
const at = (descriptor) => url + descriptor.getName();

/** What a stream gives until it ends. */
function collect(stream) {
  return new Promise((resolve) => {
    const found = { messages: [], status: undefined, error: undefined };
    stream.on("data", (message) => found.messages.push(message.number));
    stream.on("status", (status) => (found.status = status));
    stream.on("error", (error) => {
      found.error = error;
      resolve(found);
    });
    stream.on("end", () => resolve(found));
  });
}

export async function run() {
  for (const format of ["text", "binary"]) {
    const client = new grpcweb.GrpcWebClientBase({ format });
    const unary = (descriptor, message, metadata = {}) =>
      client.unaryCall(at(descriptor), message, metadata, descriptor);
    await check(`google grpc-web (${format}): unary`, async () => {
      const answer = await unary(echo, sample("hello", 7), { authorization: `Bearer ${token}` });
      assert.deepEqual([answer.text, answer.number], ["hello", 7]);
    });
    await check(`google grpc-web (${format}): errors`, async () => {
      const refused = await failure(unary(get, sample("refuse")));
      assert.deepEqual([refused.code, refused.message], [3, "not good"]);
      assert.ok(refused.metadata["grpc-status-details-bin"]);
      assert.equal((await failure(unary(echo, sample("x")))).code, 16);
      const deadline = { deadline: `${Date.now() + 150}` };
      assert.equal((await failure(unary(get, sample("hang"), deadline))).code, 4);
    });
    await check(`google grpc-web (${format}): server streaming`, async () => {
      const found = await collect(client.serverStreaming(at(watch), sample("t", 50), {}, watch));
      assert.equal(found.error, undefined);
      assert.deepEqual(found.messages, [...Array(50).keys()]);
      const failed = await collect(client.serverStreaming(at(watch), sample("fail", 3), {}, watch));
      assert.deepEqual([failed.messages, failed.error.code], [[0, 1, 2], 14]);
    });
  }
}
