// The service's configuration: the only reader of the environment. Every value has a
// default except the secret; a bad one is an error that names the key, the value and
// what is allowed.
import { readFileSync } from "node:fs";

type Env = Record<string, string | undefined>;
type Parse<T> = (value: string) => T | undefined;
type Option<T> = { default?: string; allowed: string; parse: Parse<T>; secret?: boolean; doc: string };

const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
const LOG_FORMATS = ["json", "human"] as const;

/** Every variable: its default, what it allows and what it is for. */
export const OPTIONS = {
  REALTIME_LISTEN: option("127.0.0.1:8091", "host:port, port 0 for any free one", parseAddress, "where HTTP is served"),
  REALTIME_DATA_DIR: option(".data", "a folder", nonEmpty, "where SQLite keeps its files; made if missing"),
  GATEWAY_INTERNAL_URL: option(
    "http://127.0.0.1:8081",
    "an http:// URL without a path",
    parseHttpUrl,
    "the gateway's internal listener, through which Python is called",
  ),
  SERVICE_SECRET: {
    allowed: "at least 32 bytes",
    parse: (value: string) => (Buffer.byteLength(value) >= 32 ? value : undefined),
    secret: true,
    doc: "the secret shared with the gateway; or SERVICE_SECRET_FILE, a file that holds it",
  } as Option<string>,
  LOG_FORMAT: option("human", LOG_FORMATS.join(" | "), oneOf(LOG_FORMATS), "how log lines look"),
  LOG_LEVEL: option("info", LOG_LEVELS.join(" | "), oneOf(LOG_LEVELS), "the least severe level that is logged"),
  REALTIME_AI_TIMEOUT_MS: option("5000", "1 to 60000", integer(1, 60_000), "deadline of one call to Python"),
  REALTIME_RECOMMEND_TIMEOUT_MS: option(
    "500",
    "1 to 60000",
    integer(1, 60_000),
    "how long a page of the catalogue waits for its recommendations",
  ),
  REALTIME_OUTBOX_CONCURRENCY: option("4", "1 to 64", integer(1, 64), "notes indexed at the same time"),
  REALTIME_OUTBOX_MAX_BACKOFF_MS: option("2000", "10 to 600000", integer(10, 600_000), "longest pause between tries"),
  REALTIME_OUTBOX_POISON_ATTEMPTS: option("3", "1 to 100", integer(1, 100), "refusals after which a row is parked"),
  REALTIME_CHANGES_RETAINED: option("100000", "1 to 10000000", integer(1, 10_000_000), "changes kept for resuming"),
  REALTIME_SSE_HEARTBEAT_MS: option("15000", "50 to 600000", integer(50, 600_000), "pause between heartbeats"),
  REALTIME_SSE_BUFFER_BYTES: option(
    "262144",
    "1024 to 67108864",
    integer(1024, 1 << 26),
    "unsent bytes per SSE client",
  ),
  REALTIME_SSE_MAX_CLIENTS: option("10000", "1 to 1000000", integer(1, 1_000_000), "SSE clients at the same time"),
  REALTIME_COLLAB_SETTLE_MS: option(
    "700",
    "10 to 60000",
    integer(10, 60_000),
    "quiet time after which an edit settles",
  ),
  REALTIME_COLLAB_BUFFER_BYTES: option(
    "8388608",
    "1024 to 1073741824",
    integer(1024, 1 << 30),
    "unsent bytes per socket",
  ),
  REALTIME_CHANNELS_CONCURRENCY: option("256", "1 to 10000", integer(1, 10_000), "channel hooks that run at a time"),
  REALTIME_CHANNELS_WAITING: option(
    "1024",
    "0 to 100000",
    integer(0, 100_000),
    "asks of the gateway that wait for a hook; further ones are refused",
  ),
  REALTIME_CHANNELS_EMITS: option(
    "10000",
    "1 to 1000000",
    integer(1, 1_000_000),
    "own publications that wait for the gateway; further ones are refused",
  ),
  REALTIME_CHANNELS_MAX_BACKOFF_MS: option(
    "2000",
    "10 to 600000",
    integer(10, 600_000),
    "longest pause before the link is opened again",
  ),
  REALTIME_CHAT_REVIEW_MS: option(
    "150",
    "1 to 5000",
    integer(1, 5_000),
    "how long a message waits for its judgement; later it is published unreviewed",
  ),
  REALTIME_CHAT_REFUSE_PERCENT: option(
    "80",
    "1 to 101",
    integer(1, 101),
    "the score of offence from which a message is refused or withdrawn; 101: never",
  ),
  REALTIME_CHAT_ANSWER_MS: option("60000", "100 to 300000", integer(100, 300_000), "bound of one assistant's answer"),
  REALTIME_CHAT_ANSWERS: option("4", "1 to 64", integer(1, 64), "answers written at a time; further questions wait"),
  REALTIME_TELEMETRY_LATENESS_MS: option(
    "2000",
    "0 to 3600000",
    integer(0, 3_600_000),
    "how much older than a series' newest point a point may be for its window to wait for it",
  ),
  REALTIME_TELEMETRY_IDLE_MS: option(
    "10000",
    "100 to 3600000",
    integer(100, 3_600_000),
    "silence after which a series' open windows close",
  ),
  REALTIME_TELEMETRY_SERIES: option("1000", "1 to 100000", integer(1, 100_000), "series; further ones are refused"),
  REALTIME_TELEMETRY_POINTS: option("10000", "100 to 1000000", integer(100, 1_000_000), "points kept of each series"),
  REALTIME_BOARDS_FORECAST_EVERY: option("10", "1 to 1000", integer(1, 1_000), "windows between two forecasts"),
  REALTIME_SLOW_QUERY_MS: option("50", "1 to 60000", integer(1, 60_000), "a slower query is logged"),
  REALTIME_SHUTDOWN_MS: option("10000", "100 to 600000", integer(100, 600_000), "bound of a graceful stop"),
};

type Values = { [K in keyof typeof OPTIONS]: (typeof OPTIONS)[K] extends Option<infer T> ? T : never };

/** The configuration, by the part of the service that uses it. */
export type Config = ReturnType<typeof readConfig>;

/** A value of the environment that cannot be used. */
export class ConfigError extends Error {
  override name = "ConfigError";
}

/** Reads and checks the configuration. Throws ConfigError. */
export function readConfig(env: Env) {
  refuseUnknown(env);
  const v = Object.fromEntries(
    Object.entries(OPTIONS).map(([key, spec]) => [key, read(env, key, spec as Option<unknown>)]),
  ) as Values;
  return {
    listen: v.REALTIME_LISTEN,
    dataDir: v.REALTIME_DATA_DIR,
    slowQueryMs: v.REALTIME_SLOW_QUERY_MS,
    shutdownMs: v.REALTIME_SHUTDOWN_MS,
    secret: v.SERVICE_SECRET,
    log: { format: v.LOG_FORMAT, level: v.LOG_LEVEL },
    ai: { gateway: v.GATEWAY_INTERNAL_URL, timeoutMs: v.REALTIME_AI_TIMEOUT_MS },
    catalogue: { recommendMs: v.REALTIME_RECOMMEND_TIMEOUT_MS },
    outbox: {
      concurrency: v.REALTIME_OUTBOX_CONCURRENCY,
      maxBackoffMs: v.REALTIME_OUTBOX_MAX_BACKOFF_MS,
      poisonAttempts: v.REALTIME_OUTBOX_POISON_ATTEMPTS,
    },
    changes: {
      retained: v.REALTIME_CHANGES_RETAINED,
      heartbeatMs: v.REALTIME_SSE_HEARTBEAT_MS,
      bufferBytes: v.REALTIME_SSE_BUFFER_BYTES,
      maxClients: v.REALTIME_SSE_MAX_CLIENTS,
    },
    channels: {
      concurrency: v.REALTIME_CHANNELS_CONCURRENCY,
      waiting: v.REALTIME_CHANNELS_WAITING,
      emits: v.REALTIME_CHANNELS_EMITS,
      maxBackoffMs: v.REALTIME_CHANNELS_MAX_BACKOFF_MS,
    },
    chat: {
      reviewMs: v.REALTIME_CHAT_REVIEW_MS,
      refuseScore: v.REALTIME_CHAT_REFUSE_PERCENT / 100,
      answerMs: v.REALTIME_CHAT_ANSWER_MS,
      answers: v.REALTIME_CHAT_ANSWERS,
    },
    boards: {
      latenessMs: v.REALTIME_TELEMETRY_LATENESS_MS,
      idleMs: v.REALTIME_TELEMETRY_IDLE_MS,
      series: v.REALTIME_TELEMETRY_SERIES,
      points: v.REALTIME_TELEMETRY_POINTS,
      forecastEvery: v.REALTIME_BOARDS_FORECAST_EVERY,
    },
    collab: { settleMs: v.REALTIME_COLLAB_SETTLE_MS, bufferBytes: v.REALTIME_COLLAB_BUFFER_BYTES },
  };
}

function option<T>(value: string, allowed: string, parse: Parse<T>, doc: string): Option<T> {
  return { default: value, allowed, parse, doc };
}

function read<T>(env: Env, key: string, spec: Option<T>): T {
  const raw = (spec.secret ? readSecret(env, key) : env[key]) ?? spec.default;
  if (raw === undefined) {
    throw new ConfigError(`${key} is not set; allowed: ${spec.allowed} (or ${key}_FILE, a file that holds it)`);
  }
  const value = spec.parse(raw);
  if (value !== undefined) return value;
  const shown = spec.secret ? `a secret of ${Buffer.byteLength(raw)} bytes` : JSON.stringify(raw);
  throw new ConfigError(`${key}: ${shown} is not allowed; allowed: ${spec.allowed}`);
}

function readSecret(env: Env, key: string): string | undefined {
  const file = env[`${key}_FILE`];
  if (file === undefined) return env[key];
  if (env[key] !== undefined) throw new ConfigError(`${key} and ${key}_FILE are both set; allowed: one of them`);
  try {
    return readFileSync(file, "utf8").trim();
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? "unreadable";
    throw new ConfigError(`${key}_FILE: ${JSON.stringify(file)} cannot be read (${reason}); allowed: a readable file`);
  }
}

function refuseUnknown(env: Env) {
  for (const [key, value] of Object.entries(env)) {
    if (!key.startsWith("REALTIME_") || Object.hasOwn(OPTIONS, key)) continue;
    const known = Object.keys(OPTIONS).filter((name) => name.startsWith("REALTIME_"));
    throw new ConfigError(`${key}=${JSON.stringify(value)} is not known; allowed: ${known.join(", ")}`);
  }
}

function parseAddress(value: string) {
  const match = /^(\[[0-9a-fA-F:]+\]|[^:\s]+):(\d{1,5})$/.exec(value);
  if (!match || Number(match[2]) > 65_535) return undefined;
  return { host: match[1]!.replace(/^\[|\]$/g, ""), port: Number(match[2]) };
}

function parseHttpUrl(value: string) {
  const url = URL.parse(value);
  return url?.protocol === "http:" && url.pathname === "/" && !url.search ? url : undefined;
}

function nonEmpty(value: string) {
  return value.trim() || undefined;
}

function oneOf<const T extends string>(names: readonly T[]): Parse<T> {
  return (value) => names.find((name) => name === value);
}

function integer(min: number, max: number): Parse<number> {
  return (value) => (/^\d+$/.test(value) && Number(value) >= min && Number(value) <= max ? Number(value) : undefined);
}
