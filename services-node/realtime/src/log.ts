// The logger: JSON lines, or short coloured ones for people. Never bodies, texts or tokens.
import type { Writable } from "node:stream";
import { type Logger, pino } from "pino";
import type { Config } from "./config.ts";

export type Log = Logger;

/** Fields that every line about one piece of work shows first, in the human format. */
const COLORS: Record<string, string> = { warn: "\x1b[33m", error: "\x1b[31m", fatal: "\x1b[31m", debug: "\x1b[2m" };

export function createLog({ format, level }: Config["log"], output: Writable = process.stdout): Log {
  const destination = format === "json" ? output : { write: (line: string) => output.write(humanLine(line)) };
  return pino(
    {
      level,
      base: format === "json" ? { service: "realtime" } : {},
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    destination,
  );
}

function humanLine(line: string): string {
  const { time, level, msg, err, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const clock = String(time).slice(11, 23);
  const color = process.stdout.isTTY ? (COLORS[String(level)] ?? "") : "";
  const rest = Object.entries(fields).map(([key, value]) => ` ${key}=${showValue(value)}`);
  const stack = err ? `\n${(err as { stack?: string }).stack ?? JSON.stringify(err)}` : "";
  const text = `${clock} ${String(level).toUpperCase().padEnd(5)} ${msg ?? ""}${rest.join("")}${stack}`;
  return color ? `${color}${text}\x1b[0m\n` : `${text}\n`;
}

function showValue(value: unknown): string {
  return typeof value === "string" && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
}
