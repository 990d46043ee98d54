// The model of the gateway over real sockets: WebSockets in both encodings, on a port that can be taken down and again up.
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import { type WebSocket, WebSocketServer } from "ws";
import { systemClock } from "../../src/core/clock.ts";
import type { Link } from "../../src/core/link.ts";
import { HubModel } from "./hub.ts";
import { decodeClient, type Encoding, encodeServer } from "./wire.ts";

const DEADLINE_MS = 10_000;

export async function startServer(t: TestContext) {
  const hub = new HubModel(systemClock);
  const sockets = new Set<WebSocket>();
  const seen: { protocol: string; frames: number } = { protocol: "", frames: 0 };
  const websockets = new WebSocketServer({ noServer: true });
  websockets.on("connection", (socket) => {
    sockets.add(socket);
    seen.protocol = socket.protocol;
    socket.on("close", () => void sockets.delete(socket));
    socket.on("message", () => {
      seen.frames += 1;
    });
    serve(socket, hub);
  });
  let server: Server | undefined;
  let port = 0;
  const up = async () => {
    const made = createServer();
    server = made;
    made.on("upgrade", (request, socket, head) => {
      websockets.handleUpgrade(request, socket, head, (client) => websockets.emit("connection", client));
    });
    await new Promise<void>((resolve) => made.listen(port, "127.0.0.1", resolve));
    port = (made.address() as AddressInfo).port;
  };
  const down = async () => {
    for (const socket of sockets) socket.terminate();
    const stopped = server;
    server = undefined;
    if (stopped) await new Promise((resolve) => stopped.close(resolve));
  };
  await up();
  t.after(down);
  return { hub, sockets, seen, up, down, url: `http://127.0.0.1:${port}/channels/v1` };
}

function serve(socket: WebSocket, hub: HubModel) {
  const encoding = socket.protocol.split(".").at(-1) as Encoding;
  let link: Link | undefined;
  link = hub.dial({
    opened: () => {},
    received: (messages) => socket.send(encodeServer(encoding, messages)),
    closed: ({ code }) => socket.close(code < 4000 ? 1011 : code),
  });
  socket.on("close", () => link?.close());
  socket.on("message", (data: Buffer) => {
    const frame = encoding === "json" ? data.toString() : new Uint8Array(data);
    for (const command of decodeClient(encoding, frame)) link?.send(command);
  });
}

/** Waits until the check gives something. */
export async function eventually<T>(check: () => T | undefined | false, what = "the condition"): Promise<T> {
  const end = performance.now() + DEADLINE_MS;
  while (performance.now() < end) {
    const value = check();
    if (value) return value;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`${what} did not come true within ${DEADLINE_MS} ms`);
}
