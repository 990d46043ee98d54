// Starts the service: reads the configuration, listens, and stops cleanly on SIGTERM or SIGINT.
import { createApp } from "./app.ts";
import { type Config, ConfigError, readConfig } from "./config.ts";
import { createLog } from "./log.ts";

const config = configOrExit();
const log = createLog(config.log);
// Libraries that write to the console write to the log instead.
console.log = console.info = console.debug = (...parts) => log.debug(parts.map(String).join(" "));
console.warn = console.error = (...parts) => log.warn(parts.map(String).join(" "));

const app = await createApp(config, log).catch(exitWith);
const address = await app.start().catch(exitWith);
log.info({ address }, "ready");

let stopping = false;
for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.on(signal, () => {
    if (stopping) return;
    stopping = true;
    void stop(signal);
  });
}

async function stop(signal: string) {
  log.info({ signal }, "stopping");
  setTimeout(() => exitWith(new Error("the graceful stop took too long")), config.shutdownMs).unref();
  await app.close().catch(exitWith);
  log.info("stopped");
  process.exit(0);
}

function configOrExit(): Config {
  try {
    return readConfig(process.env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`realtime: ${error.message}\n`);
    process.exit(2);
  }
}

function exitWith(error: Error): never {
  log.fatal(error.message);
  process.exit(1);
}
