// A WebSocket server that sends back what it gets: `node echo.mjs`. Prints its port once it listens; ends with its input.
import { createRequire } from "node:module";

const require = createRequire(new URL("../../../services-node/package.json", import.meta.url));
const { WebSocketServer } = require("ws");

const server = new WebSocketServer({ port: 0, host: "127.0.0.1", perMessageDeflate: true });
server.on("listening", () => console.log(server.address().port));
server.on("connection", (socket) => {
  // What a case breaks on purpose ends its own connection.
  socket.on("error", () => {});
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
});
process.stdin.resume().on("end", () => process.exit());
