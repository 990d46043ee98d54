// Runs the pages' tests in a real browser, against a gateway and a Node service that they start:
// `cargo xtask test pages`, or `node run.mjs PATH_OF_THE_GATEWAY`. Debian's Chromium will do: apt-get install chromium.
import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync } from "node:fs";
import { delimiter, join } from "node:path";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "chrome"];
const here = import.meta.dirname;

function findBrowser() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  const folders = (process.env.PATH ?? "").split(delimiter);
  return folders.flatMap((folder) => NAMES.map((name) => join(folder, name))).find(isProgram);
}

function isProgram(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function run(command, args, env = {}) {
  const { status, error } = spawnSync(command, args, { cwd: here, stdio: "inherit", env: { ...process.env, ...env } });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

const gateway = process.argv[2];
const browser = findBrowser();
if (!gateway) {
  console.error("usage: node run.mjs PATH_OF_THE_GATEWAY");
  process.exit(2);
}
if (!browser) {
  console.error("\n*** THE PAGES WERE NOT TESTED: no Chromium was found. apt-get install chromium, or set CHROMIUM. ***\n");
  process.exit(0);
}
if (!existsSync(join(here, "node_modules/playwright-core"))) run("npm", ["ci", "--ignore-scripts"]);
run(process.execPath, ["--test", "--test-concurrency=1", "client.test.mjs", "pages.test.mjs"], { GATEWAY: gateway, CHROMIUM: browser });
