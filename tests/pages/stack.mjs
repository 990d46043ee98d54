// A gateway and a Node service with a folder and ports of their own, and browsers that look at them. Python is not
// needed: what it would judge is shown as not judged yet.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { chromium } from "playwright-core";

const root = resolve(import.meta.dirname, "../..");
const DEADLINE_MS = 30_000;
const PATIENCE_MS = 15_000;

export async function startStack() {
  const folder = mkdtempSync(join(tmpdir(), "pages-"));
  const ports = await freePorts(["public", "internal", "admin", "realtime", "ai"]);
  for (const name of ["identity", "realtime", "ai"]) {
    writeFileSync(join(folder, name), randomBytes(32).toString("hex"));
  }
  const processes = { gateway: startGateway(folder, ports), realtime: startRealtime(folder, ports) };
  const base = `http://127.0.0.1:${ports.public}`;
  const stack = {
    base,
    token: (subject) => token(`http://127.0.0.1:${ports.admin}`, subject),
    stopRealtime: (signal = "SIGKILL") => stop(processes.realtime, signal),
    startRealtime: async () => {
      processes.realtime = startRealtime(folder, ports);
      await answers(`${base}/app/`);
    },
    stopGateway: (signal = "SIGTERM") => stop(processes.gateway, signal),
    startGateway: async () => {
      processes.gateway = startGateway(folder, ports);
      await answers(`${base}/app/`);
    },
    close: async () => {
      await Promise.all(Object.values(processes).map((one) => stop(one, "SIGTERM")));
      rmSync(folder, { recursive: true, force: true });
    },
  };
  try {
    await answers(`${base}/app/`);
  } catch (error) {
    await stack.close();
    throw error;
  }
  return stack;
}

function startGateway(folder, ports) {
  const at = (name) => `127.0.0.1:${ports[name]}`;
  return start(process.env.GATEWAY, ["run", "--config", process.env.GATEWAY_CONFIG ?? join(root, "gateway/gateway.toml"), "--dev-issuer"], {
    GATEWAY__LISTEN__PUBLIC: at("public"),
    GATEWAY__LISTEN__INTERNAL: at("internal"),
    GATEWAY__LISTEN__ADMIN: at("admin"),
    GATEWAY__IDENTITY__HS256_SECRET_FILE: join(folder, "identity"),
    GATEWAY__UPSTREAMS__REALTIME__ADDRESS: at("realtime"),
    GATEWAY__UPSTREAMS__REALTIME__SECRET_FILE: join(folder, "realtime"),
    GATEWAY__UPSTREAMS__AI__ADDRESS: at("ai"),
    GATEWAY__UPSTREAMS__AI__SECRET_FILE: join(folder, "ai"),
    GATEWAY__LOG__LEVEL: "warn",
  });
}

function startRealtime(folder, ports) {
  const data = join(folder, "data");
  mkdirSync(data, { recursive: true });
  return start(join(root, "services-node/node_modules/.bin/node"), [join(root, "services-node/realtime/src/main.ts")], {
    REALTIME_LISTEN: `127.0.0.1:${ports.realtime}`,
    REALTIME_DATA_DIR: data,
    GATEWAY_INTERNAL_URL: `http://127.0.0.1:${ports.internal}`,
    SERVICE_SECRET_FILE: join(folder, "realtime"),
    LOG_LEVEL: "warn",
  });
}

function start(command, args, env) {
  const stdio = process.env.PAGES_LOGS ? "inherit" : "ignore";
  return spawn(command, args, { env: { ...process.env, ...env }, stdio });
}

async function stop(child, signal) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill(signal);
  await gone;
}

async function freePorts(names) {
  const servers = names.map(() => createServer());
  await Promise.all(servers.map((server) => new Promise((resolve) => server.listen(0, "127.0.0.1", resolve))));
  const ports = Object.fromEntries(names.map((name, index) => [name, servers[index].address().port]));
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

async function answers(url) {
  const end = Date.now() + DEADLINE_MS;
  for (;;) {
    const response = await fetch(url).catch(() => undefined);
    if (response?.ok) return;
    if (Date.now() > end) throw new Error(`${url} did not answer within ${DEADLINE_MS} ms: ${response?.status}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function token(admin, subject) {
  const body = JSON.stringify({ sub: subject, scope: "notes", ttl_seconds: 3600 });
  const response = await fetch(`${admin}/dev/token`, { method: "POST", headers: { "content-type": "application/json" }, body });
  return (await response.json()).token;
}

/** A browser that notes what goes wrong in its pages, and what they ask other hosts for. */
export async function startBrowser(base) {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
  const wrong = [];
  const open = async (url, options = {}) => {
    const context = await browser.newContext(options);
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
    page.on("pageerror", (error) => wrong.push(String(error)));
    page.on("request", (request) => {
      const { protocol, host } = new URL(request.url());
      if (protocol !== "data:" && host !== new URL(base).host) wrong.push(`asked another host: ${request.url()}`);
    });
    await page.goto(base + url);
    return page;
  };
  return { open, wrong: () => [...new Set(wrong)], close: () => browser.close() };
}
