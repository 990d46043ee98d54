// Links node_modules/.bin/node to the Node runtime that came as this platform's package.
// npm itself drops the link when it discards the other platforms' packages, which have a
// command of the same name. Runs after every install, on any Node that npm runs on.
import { existsSync, mkdirSync, rmSync, symlinkSync } from "node:fs";
import { fileURLToPath } from "node:url";

const modules = fileURLToPath(new URL("../node_modules/", import.meta.url));
const names = ["node", "node-bin"].map((prefix) => `${prefix}-${process.platform}-${process.arch}`);
const runtime = names.find((name) => existsSync(`${modules}${name}/bin/node`));
if (runtime) {
  mkdirSync(`${modules}.bin`, { recursive: true });
  rmSync(`${modules}.bin/node`, { force: true });
  symlinkSync(`../${runtime}/bin/node`, `${modules}.bin/node`);
} else {
  // Not an error: an image may leave the package out because its base brings Node 24.
  console.warn(`link-runtime: no Node runtime is installed for ${process.platform}-${process.arch}`);
}
