// The files of the pages: those of realtime/pages, and the channels client that they use. Which paths there are is found
// once, by listing the folders, so no path that is asked for is ever looked up on the disk. TypeScript becomes JavaScript
// as it is first asked for: its types are blanked, and nothing else is built.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";

export type PageFile = { type: string; etag: string; body: Buffer };

const TYPES: Record<string, string> = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".ts": "text/javascript; charset=utf-8",
};
const PAGES = new URL("../../pages/", import.meta.url);
const CHANNELS = new URL(".", import.meta.resolve("@hybrid/channels"));
/** Where the client's modules are served; pages name it by its package. */
const CHANNELS_PATH = "lib/channels/";

export class PageFiles {
  /** Paths below /app/, and where each is. */
  readonly #places: ReadonlyMap<string, string>;
  readonly #made = new Map<string, PageFile>();

  constructor(pages = PAGES, channels = CHANNELS) {
    this.#places = new Map([...list(pages, ""), ...list(channels, CHANNELS_PATH)]);
  }

  get paths(): string[] {
    return [...this.#places.keys()];
  }

  /** The file at a path below /app/; undefined where there is none. A page needs no `.html`. */
  find(path: string): PageFile | undefined {
    const name = path === "" ? "index.html" : this.#places.has(path) ? path : `${path}.html`;
    const place = this.#places.get(name);
    if (!place) return undefined;
    const made = this.#made.get(name) ?? read(place);
    this.#made.set(name, made);
    return made;
  }
}

function list(folder: URL, under: string): [string, string][] {
  const root = fileURLToPath(folder);
  const names = readdirSync(root, { recursive: true, encoding: "utf8" }).filter((name) => extname(name) in TYPES);
  return names.map((name) => [under + name.replaceAll("\\", "/"), `${root}/${name}`]);
}

function read(place: string): PageFile {
  const text = readFileSync(place, "utf8");
  const body = Buffer.from(extname(place) === ".ts" ? toJavaScript(text) : text);
  const etag = `"${createHash("sha256").update(body).digest("base64url").slice(0, 22)}"`;
  return { type: TYPES[extname(place)]!, etag, body };
}

/** Browsers resolve no package names. */
function toJavaScript(text: string): string {
  return stripTypeScriptTypes(text).replaceAll('from "@hybrid/channels"', `from "/app/${CHANNELS_PATH}index.ts"`);
}
