// Node.js's own HTTP/2 (nghttp2): WebSockets in streams of one connection, by extended CONNECT (RFC 8441).
import { strict as assert } from "node:assert";
import { once } from "node:events";
import http2 from "node:http2";
import { url } from "./contract.mjs";
import { check } from "./report.mjs";

/** A stream that asks for a WebSocket, and the answer's headers. */
function open(session, path) {
  const stream = session.request({
    ":method": "CONNECT",
    ":protocol": "websocket",
    ":scheme": "http",
    ":authority": new URL(url).host,
    ":path": path,
    "sec-websocket-version": "13",
  });
  return { stream, answer: once(stream, "response").then(([headers]) => headers) };
}

/** A masked text frame of less than 126 bytes; the mask of zeros leaves the text as it is. */
const frame = (text) => Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)]);

/** The answer's text frames, until one that closes. */
async function texts(stream) {
  let data = Buffer.alloc(0);
  const found = [];
  for await (const piece of stream) {
    data = Buffer.concat([data, piece]);
    while (data.length >= 2 && data.length >= 2 + data[1]) {
      const [opcode, length] = [data[0] & 0xf, data[1]];
      if (opcode === 8) return found.concat(data.readUInt16BE(2));
      if (opcode === 1) found.push(JSON.parse(data.subarray(2, 2 + length).toString()));
      data = data.subarray(2 + length);
    }
  }
  return found;
}

export async function run() {
  const session = http2.connect(url);
  await check("node:http2: the settings offer extended CONNECT", async () => {
    const [settings] = await once(session, "remoteSettings");
    assert.equal(settings.enableConnectProtocol, true);
  });
  await check("node:http2: two WebSockets on one connection", async () => {
    const sockets = [open(session, "/v1/lab:converse"), open(session, "/v1/lab:converse")];
    for (const { stream, answer } of sockets) {
      assert.equal((await answer)[":status"], 200);
      stream.write(frame('{"number":7}'));
      stream.write(frame(""));
    }
    for (const { stream } of sockets) assert.deepEqual(await texts(stream), [{ number: 7 }, 1000]);
  });
  await check("node:http2: a refusal is an ordinary answer", async () => {
    const { stream, answer } = open(session, "/v1/nothing");
    const headers = await answer;
    assert.deepEqual([headers[":status"], headers["content-type"]], [404, "application/problem+json"]);
    stream.close();
  });
  session.close();
}
