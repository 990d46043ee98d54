// What the tests build on: the service on port 0 with a temporary folder, a Python stand-in
// that speaks the real protocol and records, users, event streams and Yjs clients.
import { mkdtempSync, rmSync } from "node:fs";
import { get as httpGet } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import * as grpc from "@grpc/grpc-js";
import { HocuspocusProvider, HocuspocusProviderWebsocket } from "@hocuspocus/provider";
import { RecommendService, SearchService } from "@hybrid/contracts";
import { addService, type Implementation } from "@hybrid/contracts/grpc";
import { SignJWT } from "jose";
import { WebSocket } from "ws";
import { createApp } from "../src/app.ts";
import { readConfig } from "../src/config.ts";
import { createLog } from "../src/log.ts";
import { recommender } from "./recommender.ts";

export const SECRET = "the secret that the tests share, 32 bytes and more";
const DEADLINE_MS = 10_000;

type Claims = { sub?: string; kind?: string; iss?: string; aud?: string; exp?: number; secret?: string };

export function identity(subject: string, claims: Claims = {}): Promise<string> {
  const { secret = SECRET, exp = 60, ...rest } = claims;
  const now = Math.floor(Date.now() / 1000);
  const payload = { sub: subject, kind: "user", iss: "hybrid-gateway", aud: "realtime", scope: "notes", ...rest };
  return new SignJWT({ ...payload, iat: now, exp: now + exp })
    .setProtectedHeader({ alg: "HS256" })
    .sign(Buffer.from(secret));
}

export function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "realtime-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Waits until the check gives something; a check that throws is tried again. */
export async function eventually<T>(check: () => T | Promise<T>, what = "the condition"): Promise<NonNullable<T>> {
  const end = Date.now() + DEADLINE_MS;
  let last: unknown;
  while (Date.now() < end) {
    try {
      const value = await check();
      if (value) return value;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`${what} did not come true within ${DEADLINE_MS} ms`, { cause: last });
}

export type Service = Awaited<ReturnType<typeof startService>>;

/** The service in this process. `restart` closes it and opens the same folder again. */
export async function startService(t: TestContext, env: Record<string, string> = {}) {
  const folder = env.REALTIME_DATA_DIR ?? temporaryFolder(t);
  const config = readConfig({
    SERVICE_SECRET: SECRET,
    REALTIME_LISTEN: "127.0.0.1:0",
    REALTIME_DATA_DIR: folder,
    GATEWAY_INTERNAL_URL: "http://127.0.0.1:1",
    REALTIME_COLLAB_SETTLE_MS: "60",
    LOG_LEVEL: "silent",
    ...env,
  });
  const app = await createApp(config, createLog(config.log));
  let closed: Promise<void> | undefined;
  const close = () => (closed ??= app.close());
  t.after(close);
  const url = await app.start();
  const metric = async (name: string, labels: Record<string, string> = {}) => {
    const { values } = await app.metrics.registry.getSingleMetric(name)!.get();
    const matches = values.filter((value) => Object.entries(labels).every(([k, v]) => value.labels[k] === v));
    return matches.reduce((sum, value) => sum + value.value, 0);
  };
  return { url, folder, app, close, metric, as: (subject: string) => userOf(url, subject) };
}

export type Answer = { status: number; headers: Headers; body: any; text: string };

/** A user's view of the API. */
export function userOf(url: string, subject: string) {
  const call = async (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) => {
    const response = await fetch(url + path, {
      method,
      headers: {
        "x-hybrid-identity": await identity(subject),
        ...(body !== undefined && { "content-type": "application/json" }),
        ...headers,
      },
      ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    const json = response.headers.get("content-type")?.includes("json");
    return {
      status: response.status,
      headers: response.headers,
      text,
      body: json && text ? JSON.parse(text) : undefined,
    } as Answer;
  };
  return {
    subject,
    call,
    get: (path: string, headers?: Record<string, string>) => call("GET", path, undefined, headers),
    create: async (title: string, text = "") =>
      (await call("POST", "/api/notes", { title, text })).body as { id: string },
    put: (id: string, title: string, text: string, etag: string) =>
      call("PUT", `/api/notes/${id}`, { title, text }, { "if-match": etag }),
    share: (id: string, readers: string[]) => call("PUT", `/api/notes/${id}/readers`, { readers }),
    remove: (id: string) => call("DELETE", `/api/notes/${id}`),
  };
}

export type Event = { id: string; event: string; data: any };

/** Follows the change feed. `next` waits for an event; `events` is what came so far. */
export async function follow(
  t: TestContext,
  url: string,
  subject: string,
  lastEventId?: number,
  options: { pause?: boolean } = {},
) {
  const events: Event[] = [];
  const headers = {
    "x-hybrid-identity": await identity(subject),
    ...(lastEventId !== undefined && { "last-event-id": String(lastEventId) }),
  };
  const state = { ended: false, raw: "" };
  const response = await new Promise<import("node:http").IncomingMessage>((resolve, reject) => {
    httpGet(`${url}/api/changes`, { headers, agent: false }, resolve).on("error", reject);
  });
  t.after(() => response.destroy());
  response.on("close", () => (state.ended = true)).on("error", () => {});
  if (!options.pause) response.setEncoding("utf8").on("data", (chunk: string) => parse(chunk));
  const parse = (chunk: string) => {
    state.raw += chunk;
    const blocks = state.raw.split("\n\n");
    state.raw = blocks.pop()!;
    for (const block of blocks) {
      const field = (name: string) => block.match(new RegExp(`^${name}: (.*)$`, "m"))?.[1] ?? "";
      if (field("data")) events.push({ id: field("id"), event: field("event"), data: JSON.parse(field("data")) });
      else state.raw === "" && comments.push(block);
    }
  };
  const comments: string[] = [];
  const find = (match: (event: Event) => boolean) => eventually(() => events.find(match), "the event");
  return { status: response.statusCode, response, events, comments, state, find, close: () => response.destroy() };
}

export type Indexed = {
  method: "index" | "delete";
  id: string;
  revision: number;
  document: any;
  metadata: grpc.Metadata;
};

/** Python's side of the contract: records what it is sent, and answers as it is told. */
export async function startPython(t: TestContext, port = 0, more: (server: grpc.Server) => void = () => {}) {
  const calls: Indexed[] = [];
  const searches: any[] = [];
  const behaviour = {
    fail: (_: Indexed): { code: number; details: string } | undefined => undefined,
    delay: (): Promise<void> | undefined => undefined,
    search: async (_: any): Promise<any[]> => [],
  };
  const record = (call: Indexed) => {
    calls.push(call);
    const failure = behaviour.fail(call);
    if (failure) throw failure;
  };
  const service: Implementation<typeof SearchService> = {
    index: async ({ document }, { metadata }) => {
      const { id, revision } = document!;
      await behaviour.delay();
      record({ method: "index", id, revision: Number(revision), document, metadata });
      return { outcome: 1, revision, passages: 1 };
    },
    delete: async ({ documentId: id, revision }, { metadata }) => {
      record({ method: "delete", id, revision: Number(revision), document: undefined, metadata });
      return { deleted: true };
    },
    search: async (request) => {
      searches.push(request);
      return { results: await behaviour.search(request) };
    },
  };
  const server = new grpc.Server();
  addService(server, SearchService, service);
  const recommend = recommender();
  addService(server, RecommendService, recommend.service);
  more(server);
  const bound = await new Promise<number>((resolve, reject) =>
    server.bindAsync(`127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(), (error, actual) =>
      error ? reject(error) : resolve(actual),
    ),
  );
  const stop = () => server.forceShutdown();
  t.after(stop);
  const latest = (id: string) => calls.findLast((call) => call.id === `notes/${id}`);
  return {
    calls,
    searches,
    recommend,
    behaviour,
    latest,
    stop,
    port: bound,
    env: { GATEWAY_INTERNAL_URL: `http://127.0.0.1:${bound}` },
  };
}

export type Editor = Awaited<ReturnType<typeof edit>>;

/** A Yjs client on a note's document. */
export async function edit(t: TestContext, url: string, subject: string, noteId: string) {
  const token = await identity(subject);
  class AuthenticatedSocket extends WebSocket {
    constructor(address: string) {
      super(address, { headers: { "x-hybrid-identity": token } });
    }
  }
  const websocketProvider = new HocuspocusProviderWebsocket({
    url: `${url.replace("http", "ws")}/collab`,
    WebSocketPolyfill: AuthenticatedSocket,
    delay: 50,
    minDelay: 20,
    maxDelay: 200,
    jitter: false,
    initialDelay: 0,
  });
  const refusals: string[] = [];
  const closes: string[] = [];
  const messages: any[] = [];
  const provider = new HocuspocusProvider({
    websocketProvider,
    name: `note:${noteId}`,
    token: "",
    onAuthenticationFailed: ({ reason }) => void refusals.push(reason),
    onClose: ({ event }) => void closes.push(event.reason),
    onStateless: ({ payload }) => void messages.push(JSON.parse(payload)),
  });
  provider.attach();
  const close = () => {
    // A destroyed socket provider may still have a reconnection scheduled.
    websocketProvider.connect = async () => undefined;
    provider.destroy();
    websocketProvider.destroy();
  };
  t.after(close);
  const text = provider.document.getText("text");
  return {
    provider,
    websocketProvider,
    text,
    refusals,
    closes,
    messages,
    close,
    synced: () => eventually(() => provider.isSynced, "the first sync"),
    acknowledged: () => eventually(() => !provider.hasUnsyncedChanges, "the acknowledgement"),
    refused: () => eventually(() => refusals[0], "the refusal"),
    related: (match: (passages: any[]) => boolean = () => true) =>
      eventually(() => messages.find((m) => m.type === "related" && match(m.passages)), "related passages"),
  };
}

/** An editor whose document is there. */
export async function open(t: TestContext, url: string, subject: string, noteId: string): Promise<Editor> {
  const editor = await edit(t, url, subject, noteId);
  await editor.synced();
  return editor;
}
