// The WebSocket end of /collab: upgrades on the service's own HTTP server, after the identity
// was verified, and hands the sockets to Hocuspocus. A client that does not read is closed.
import { type IncomingMessage, type Server, STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import type { Hocuspocus } from "@hocuspocus/server";
import { type WebSocket, WebSocketServer } from "ws";
import { requestContext, requestIdOf, traceIdOf } from "../context.ts";
import { IDENTITY_HEADER, type IdentityVerifier, requireUser } from "../identity.ts";
import type { Log } from "../log.ts";
import { Problem } from "../problems.ts";
import type { CollabContext } from "./documents.ts";

type SocketDependencies = {
  hocuspocus: Hocuspocus<CollabContext>;
  verifier: IdentityVerifier;
  log: Log;
  config: { bufferBytes: number };
};

const PATH = "/collab";
const MAX_MESSAGE_BYTES = 4 << 20;
const SERVICE_RESTART = 1012;
const TRY_AGAIN_LATER = 1013;
const CLOSE_TIMEOUT_MS = 1_000;

export class CollabSockets {
  readonly #deps: SocketDependencies;
  readonly #server = new WebSocketServer({ noServer: true, maxPayload: MAX_MESSAGE_BYTES, perMessageDeflate: false });
  #closing = false;

  constructor(http: Server, deps: SocketDependencies) {
    this.#deps = deps;
    http.on("upgrade", (request, socket, head) => {
      socket.on("error", () => socket.destroy());
      this.#upgrade(request, socket, head).catch((error) => this.#refuse(request, socket, error));
    });
  }

  get size(): number {
    return this.#server.clients.size;
  }

  /** Closes every socket with "service restart"; those that don't answer are cut. */
  async close() {
    this.#closing = true;
    const clients = [...this.#server.clients];
    const closed = clients.map((client) => new Promise((resolve) => client.once("close", resolve)));
    for (const client of clients) client.close(SERVICE_RESTART, "service restart");
    const cut = setTimeout(() => clients.forEach((client) => void client.terminate()), CLOSE_TIMEOUT_MS);
    await Promise.all(closed);
    clearTimeout(cut);
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer) {
    if (request.url?.split("?", 1)[0] !== PATH) throw new Problem("not_found", "There is no WebSocket at this path.");
    if (this.#closing) throw new Problem("draining", "The service is shutting down.");
    const identity = requireUser(await this.#deps.verifier.verify(request.headers[IDENTITY_HEADER]));
    const context = requestContext(request.headers, requestIdOf(request.headers));
    const line = { request_id: context.requestId, trace_id: traceIdOf(context) };
    this.#server.handleUpgrade(request, socket, head, (client) => {
      this.#deps.log.debug(line, "collab socket opened");
      client.once("close", (code) => this.#deps.log.debug({ ...line, code }, "collab socket closed"));
      this.#serve(client, { identity });
    });
  }

  #serve(client: WebSocket, context: CollabContext) {
    const connection = this.#deps.hocuspocus.handleConnection(
      boundedSocket(client, this.#deps.config.bufferBytes),
      new Request(`http://localhost${PATH}`),
      context,
    );
    client.on("message", (data: Buffer) => connection.handleMessage(new Uint8Array(data)));
    client.on("close", (code, reason) => connection.handleClose({ code, reason: reason.toString() }));
    client.on("error", () => client.terminate());
  }

  #refuse(request: IncomingMessage, socket: Duplex, error: unknown) {
    const problem = error instanceof Problem ? error : new Problem("internal", "The upgrade failed.");
    if (!(error instanceof Problem)) this.#deps.log.error({ err: error }, "upgrade failed");
    const requestId = requestIdOf(request.headers);
    const body = JSON.stringify(problem.toBody(requestId));
    const headers = {
      ...problem.headers,
      "content-type": "application/problem+json",
      "content-length": Buffer.byteLength(body),
      "x-request-id": requestId,
      connection: "close",
    };
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.end(`HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}\r\n${lines.join("")}\r\n${body}`);
  }
}

/** What Hocuspocus needs of a socket; sending is refused once too much waits unsent. */
function boundedSocket(client: WebSocket, bufferBytes: number) {
  return {
    send(data: Parameters<WebSocket["send"]>[0]) {
      if (client.bufferedAmount > bufferBytes) {
        client.close(TRY_AGAIN_LATER, "reads too slowly");
        client.terminate();
        return;
      }
      client.send(data);
    },
    close: (code?: number, reason?: string) => client.close(code, reason),
    get readyState() {
      return client.readyState;
    },
  };
}
