// The service as a process of its own, for tests that kill it.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { SECRET } from "./support.ts";

const START_MS = 30_000;
const MAIN = new URL("../src/main.ts", import.meta.url).pathname;

/** The service on a folder, when it is ready. `preload`: a module that it loads first. */
export async function spawnService(t: TestContext, folder: string, gateway: string, preload?: string) {
  const first = preload ? ["--import", new URL(preload, import.meta.url).href] : [];
  const child = spawn(process.execPath, [...first, MAIN], {
    env: {
      SERVICE_SECRET: SECRET,
      REALTIME_DATA_DIR: folder,
      REALTIME_LISTEN: "127.0.0.1:0",
      REALTIME_COLLAB_SETTLE_MS: "30",
      GATEWAY_INTERNAL_URL: gateway,
      LOG_FORMAT: "json",
      // A start compiles everything once, not once for each.
      NODE_COMPILE_CACHE: join(tmpdir(), "realtime-compile-cache"),
    },
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => child.kill("SIGKILL"));
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += chunk));
  // A start has a deadline of its own: it compiles everything, on a machine that may be busy.
  const end = Date.now() + START_MS;
  let address: string | undefined;
  while (!address) {
    assert.ok(Date.now() < end && child.exitCode === null, `the service did not start: ${output}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
    address = output.match(/"address":"([^"]+)","msg":"ready"/)?.[1];
  }
  return { child, url: address };
}

/** Ends it; gives its exit code, null where the signal ended it. */
export async function kill(child: ChildProcess, signal: NodeJS.Signals) {
  const exited = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
  child.kill(signal);
  return exited;
}
