// @connectrpc/connect-node: its Connect, gRPC and gRPC-Web transports.
import { Code, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport, compressionGzip } from "@connectrpc/connect-node";
import { strict as assert } from "node:assert";
import { Lab, sample, token, url, Wire } from "./contract.mjs";
import { check, failure } from "./report.mjs";

/** A request stream that goes on only when it is told to. */
function pushed() {
  const queue = [];
  let wake = () => {};
  return {
    push(message) {
      queue.push(message);
      wake();
    },
    async *[Symbol.asyncIterator]() {
      for (;;) {
        while (queue.length === 0) {
          await new Promise((resolve) => {
            wake = resolve;
          });
        }
        const message = queue.shift();
        if (message === null) return;
        yield message;
      }
    },
  };
}

async function* all(...messages) {
  yield* messages;
}

async function collect(stream, into = []) {
  for await (const message of stream) into.push(message);
  return into;
}

async function unary(lab) {
  let header;
  let trailer;
  const answer = await lab.echo(sample("hello", 7), {
    headers: { authorization: `Bearer ${token}` },
    onHeader: (found) => (header = found),
    onTrailer: (found) => (trailer = found),
  });
  assert.deepEqual([answer.text, answer.number], ["hello", 7]);
  assert.match(header.get("server-timing"), /inference;dur=1.5$/);
  assert.equal(trailer.get("x-counted"), "yes");
}

async function errors(lab) {
  const refused = await failure(lab.get(sample("refuse")));
  assert.deepEqual([refused.code, refused.rawMessage], [Code.InvalidArgument, "not good"]);
  assert.deepEqual(
    refused.details.map((detail) => detail.type),
    ["google.rpc.BadRequest", "google.rpc.RetryInfo"],
  );
  assert.equal((await failure(lab.echo(sample("x")))).code, Code.Unauthenticated);
  assert.equal((await failure(collect(lab.mine(sample("x"))))).code, Code.Unauthenticated);
  const large = await failure(lab.get(sample("x".repeat(20_000))));
  assert.equal(large.code, Code.ResourceExhausted);
}

async function hidden(lab, expected) {
  for (const name of ["inner", "unruled"]) {
    const error = await failure(lab[name](sample("x")));
    assert.equal(error.code, expected, `${name}: ${error}`);
  }
}

async function serverStream(lab) {
  let trailer;
  const found = await collect(lab.watch(sample("t", 500), { onTrailer: (it) => (trailer = it) }));
  assert.deepEqual(
    found.map((message) => message.number),
    [...Array(500).keys()],
  );
  assert.equal(trailer.get("x-counted"), "yes");
  const before = [];
  const error = await failure(collect(lab.watch(sample("fail", 3)), before));
  assert.deepEqual([before.length, error.code], [3, Code.Unavailable]);
  const first = await failure(collect(lab.watch(sample("refuse"))));
  assert.deepEqual([first.code, first.details.length], [Code.InvalidArgument, 2]);
}

async function deadlines(lab) {
  assert.equal((await failure(lab.get(sample("hang"), { timeoutMs: 150 }))).code, Code.DeadlineExceeded);
  const silent = collect(lab.watch(sample("silent", 1), { timeoutMs: 150 }));
  assert.equal((await failure(silent)).code, Code.DeadlineExceeded);
}

async function leaving(lab) {
  const controller = new AbortController();
  const stream = lab.watch(sample("endless", 1), { signal: controller.signal });
  const error = await failure(
    (async () => {
      for await (const message of stream) if (message.number === 3) controller.abort();
    })(),
  );
  assert.equal(error.code, Code.Canceled);
}

async function clientStream(wire) {
  const answer = await wire.gather(all(sample("a"), sample("b"), sample("c")));
  assert.deepEqual([answer.number, answer.list], [3, ["a", "b", "c"]]);
}

async function duplex(lab) {
  const requests = pushed();
  requests.push(sample("x", 1));
  let number = 0;
  for await (const answer of lab.converse(requests)) {
    number += 1;
    assert.equal(answer.number, number);
    requests.push(number < 5 ? sample("x", number + 1) : null);
  }
  assert.equal(number, 5);
}

async function halfDuplex(lab) {
  const answers = await collect(lab.converse(all(sample("x", 1), sample("y", 2))));
  assert.deepEqual(
    answers.map((answer) => answer.text),
    ["x", "y"],
  );
}

const form = (options) => `${options.useBinaryFormat ? "proto" : "json"}, HTTP/${options.httpVersion}`;

async function transport(name, made, { h2, native }) {
  const [lab, wire] = [createClient(Lab, made), createClient(Wire, made)];
  await check(`${name}: unary`, () => unary(lab));
  await check(`${name}: errors`, () => errors(lab));
  await check(`${name}: hidden methods`, () => hidden(lab, native ? Code.NotFound : Code.Unimplemented));
  await check(`${name}: server streaming`, () => serverStream(lab));
  await check(`${name}: deadlines`, () => deadlines(lab));
  await check(`${name}: leaving`, () => leaving(lab));
  await check(`${name}: client streaming`, () => clientStream(wire));
  if (h2) await check(`${name}: both directions at once`, () => duplex(lab));
  await check(`${name}: one direction after the other`, () => halfDuplex(lab));
  return wire;
}

export async function run() {
  const compression = { acceptCompression: [compressionGzip], sendCompression: compressionGzip, compressMinBytes: 0 };
  for (const httpVersion of ["1.1", "2"]) {
    const h2 = httpVersion === "2";
    for (const useBinaryFormat of [true, false]) {
      const options = { baseUrl: url, httpVersion, useBinaryFormat };
      for (const [more, label] of [[{}, ""], [compression, ", gzip"]]) {
        const name = `connect (${form(options)}${label})`;
        const wire = await transport(name, createConnectTransport({ ...options, ...more }), { h2 });
        await check(`${name}: GET`, async () => {
          const got = createClient(Wire, createConnectTransport({ ...options, ...more, useHttpGet: true }));
          assert.deepEqual((await got.peek(sample("hello", 7))).number, 7);
          assert.equal((await wire.peek(sample("large"))).text.length, 8000);
        });
      }
    }
    const options = { baseUrl: url, httpVersion, useBinaryFormat: true };
    await transport(`grpc-web (${form(options)})`, createGrpcWebTransport(options), { h2 });
  }
  const grpc = { baseUrl: url, httpVersion: "2", useBinaryFormat: true };
  await transport(`grpc (${form(grpc)})`, createGrpcTransport(grpc), { h2: true, native: true });
}
