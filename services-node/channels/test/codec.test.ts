// Both encodings say the same, judged by protobuf's own library; and what a newer gateway may say is passed over.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Codec } from "../src/codec/codec.ts";
import { jsonCodec } from "../src/codec/json.ts";
import { protobuf } from "../src/codec/protobuf.ts";
import { COMMANDS, decodeClient, type Encoding, encodeServer, MESSAGES } from "./support/wire.ts";

const CODECS: [Encoding, Codec][] = [
  ["json", jsonCodec],
  ["proto", protobuf],
];

const received = (frame: string | Uint8Array) => (typeof frame === "string" ? frame : new Uint8Array(frame).buffer);

/** protobuf's library leaves out what is absent; we say undefined. */
const plain = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
  const own = Object.entries(value).filter(([, one]) => one !== undefined && typeof one !== "function");
  return Object.fromEntries(own.filter(([key]) => !key.startsWith("$")).map(([key, one]) => [key, plain(one)]));
};

for (const [encoding, codec] of CODECS) {
  test(`${encoding}: every message of the gateway is read as it was meant`, () => {
    const kinds = new Set(MESSAGES.map((message) => message.case));
    assert.equal(kinds.size, 14);
    for (const message of MESSAGES) {
      const [found] = codec.decode(received(encodeServer(encoding, [message])));
      assert.deepEqual(plain(found), plain(message));
    }
    assert.equal(codec.decode(received(encodeServer(encoding, MESSAGES))).length, MESSAGES.length);
  });

  test(`${encoding}: every command is understood as it was meant`, () => {
    const frame = codec.frame(COMMANDS.map((command) => codec.encode(command)));
    assert.deepEqual(plain(decodeClient(encoding, frame)), plain(COMMANDS));
    const size = typeof frame === "string" ? new TextEncoder().encode(frame).length : frame.length;
    const sum = COMMANDS.reduce((bytes, command) => bytes + codec.size(codec.encode(command)) + 1, 16);
    assert.ok(size <= sum, "the sizes of the pieces bound that of the frame");
  });
}

test("json: what is not known is passed over, what is absent has its default", () => {
  const frame = {
    messages: [
      { id: 1, later: {} },
      { published: { position: { epoch: "e", offset: 7, new: 1 }, new: true } },
      { publications: { channel: "c", publications: [{ offset: "9", data: { json: null } }] } },
      { closing: { code: "CLOSE_CODE_SLOW" } },
      { error: { code: "ERROR_CODE_OF_THE_FUTURE" } },
    ],
    new: [],
  };
  const found = jsonCodec.decode(JSON.stringify(frame));
  assert.deepEqual(
    found.map((message) => message.case),
    ["published", "publications", "closing", "error"],
  );
  const [published, publications, closing, error] = found as any[];
  assert.deepEqual(published.value, { position: { epoch: "e", offset: 7n }, duplicate: false, data: undefined });
  assert.deepEqual([published.id, closing.value.code, error.value.code], [0, 4001, "UNSPECIFIED"]);
  assert.deepEqual([publications.value.publications[0].data, publications.value.publications[0].offset], [null, 9n]);
});

test("what is no frame is refused", () => {
  for (const frame of ["", "[]", "7", '{"messages":[7]}', '{"messages":[{"connected":"x"}]}']) {
    assert.throws(() => jsonCodec.decode(frame), `${frame}`);
  }
  assert.throws(() => protobuf.decode("{}"), /text frame/);
  assert.throws(() => protobuf.decode(new Uint8Array([255, 255, 255]).buffer));
});
