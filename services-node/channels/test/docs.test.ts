// docs/channels.md shows frames: each is read by protobuf's own library and by this client, so that none is wrong.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { jsonCodec } from "../src/codec/json.ts";
import { protobuf } from "../src/codec/protobuf.ts";
import { CLOSE_CODES, ERROR_CODES } from "../src/messages.ts";
import { EventReader } from "../src/transports/event_stream.ts";
import { decodeClient, readServer } from "./support/wire.ts";

const page = readFileSync(new URL("../../../docs/channels.md", import.meta.url), "utf8");
const blocks = (language: string) =>
  [...page.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, "gms"))].map((one) => one[1]!);

test("every frame on the page is one, whole and known", () => {
  const frames = blocks("json");
  assert.ok(frames.length >= 10, `${frames.length} frames`);
  const seen = new Set<string>();
  for (const text of frames) {
    const { commands, messages } = JSON.parse(text);
    if (commands) {
      const read = decodeClient("json", text);
      assert.equal(read.length, commands.length);
      for (const command of read) seen.add(command.case);
      // What this client would write of it is the same frame.
      assert.deepEqual(JSON.parse(String(jsonCodec.frame(read.map((one) => jsonCodec.encode(one))))), { commands });
    } else {
      readServer(text);
      const read = jsonCodec.decode(text);
      assert.equal(read.length, messages.length, text);
      for (const message of read) seen.add(message.case);
    }
  }
  for (const kind of ["connect", "subscribe", "publish", "connected", "subscribed", "publications", "closing"]) {
    assert.ok(seen.has(kind), kind);
  }
});

test("the binary frame is a publish, and what this client writes", () => {
  const [hex] = blocks("hex");
  const bytes = Uint8Array.from(hex!.trim().split(/\s+/), (byte) => Number.parseInt(byte, 16));
  const [publish] = decodeClient("proto", bytes);
  const value = { channel: "chat:lobby", data: { type: "wave" }, key: "0191f0", latestKey: "" };
  assert.deepEqual({ ...publish }, { id: 3, case: "publish", value });
  assert.deepEqual(protobuf.frame([protobuf.encode(publish!)]), bytes);
});

test("the event is one, and its data a frame", () => {
  const [event] = new EventReader().read(`${blocks("sse")[0]}\n`);
  assert.deepEqual([event!.event, event!.id], ["message", "CgRzLTdREhMKCmNoYXQ6bG9iYnk"]);
  readServer(event!.data);
  assert.equal(jsonCodec.decode(event!.data)[0]!.case, "publications");
});

test("the page names every error and close code", () => {
  for (const code of ERROR_CODES.slice(1)) assert.ok(page.includes(`\`${code}\``), code);
  for (const [name, code] of Object.entries(CLOSE_CODES)) assert.ok(page.includes(`${code} ${name}`), name);
});
