// Calls the gateway with the clients that people use: node main.mjs <url> <descriptor set> <token>.
// One line of JSON for each case, with what went wrong; the exit code says whether anything did.
import { run as connect } from "./connect.mjs";
import { run as grpcjs } from "./grpcjs.mjs";
import { run as grpcweb } from "./grpcweb.mjs";
import { finish } from "./report.mjs";
import { run as websocket } from "./websocket.mjs";

await connect();
await grpcweb();
await grpcjs();
await websocket();
finish();
