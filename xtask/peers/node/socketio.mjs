// Socket.IO with connection state recovery, for the channels' benchmarks: every client is in one room. Says
// {"port", "control", "version"}; publishes by io.to(room).emit as a control connection tells it to
// (xtask/src/bench/channels/backend.rs says how).
import { createServer } from "node:http";
import { createServer as createControl } from "node:net";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http, {
  transports: ["websocket"],
  serveClient: false,
  connectionStateRecovery: { maxDisconnectionDuration: 2 * 60 * 1000, skipMiddlewares: true },
});
// As the documentation's page on memory advises: the first request is not kept for each session.
io.engine.on("connection", (raw) => { raw.request = null; });

let asks = 0;
io.on("connection", (socket) => {
  if (!socket.recovered) {
    asks += 1;
    socket.join("all");
  }
});

let number = 0;
function publish(count, at) {
  const time = String(at).padStart(16, "0");
  for (let i = 0; i < count; i += 1) {
    number += 1;
    const message = { m: `#S${String(number).padStart(10, "0")}T${time}`, pad: "" };
    message.pad = "x".repeat(256 - JSON.stringify(message).length);
    io.to("all").emit("m", message);
  }
}

const control = createControl((stream) => {
  stream.setNoDelay(true);
  const say = () => stream.write(`${JSON.stringify({ number, asks })}\n`);
  stream.on("error", () => {});
  say();
  createInterface({ input: stream }).on("line", (line) => {
    const [order, count, at] = line.split(" ");
    if (order === "P") publish(Number(count), at);
    else say();
  });
});

await new Promise((done) => http.listen(0, "127.0.0.1", done));
await new Promise((done) => control.listen(0, "127.0.0.1", done));
const { version } = createRequire(import.meta.url)("socket.io/package.json");
const ports = { port: http.address().port, control: control.address().port };
console.log(JSON.stringify({ ...ports, version: `${version}, Node.js ${process.versions.node}` }));
