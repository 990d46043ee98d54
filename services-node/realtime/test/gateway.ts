// The other side of the link as the tests have it: a gRPC server that speaks LinkService as the gateway does, keeps what
// is emitted by its key, and asks. On the same port Python's services, as on the gateway's internal listener.
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import {
  type Answer,
  type AskSchema,
  type AttachRequest,
  AttachResponseSchema,
  type Emit,
  type Hello,
  LinkService,
  type Payload,
  type Revoke,
} from "@hybrid/contracts/channels";
import { serviceDefinition } from "@hybrid/contracts/grpc";
import { jwtVerify } from "jose";
import { type Models, models } from "./models.ts";
import { eventually, SECRET, startPython } from "./support.ts";

type AskInit = NonNullable<MessageInitShape<typeof AskSchema>["kind"]>;
type Stream = grpc.ServerDuplexStream<AttachRequest, MessageInitShape<typeof AttachResponseSchema>>;
type AskOptions = {
  as?: string;
  kind?: string;
  session?: string;
  timeoutMs?: number;
  again?: boolean;
  traceparent?: string;
};
/** Something emitted, with its payload read. */
export type Emitted = { channel: string; data: any; key: string; latestKey: string; removed: boolean; times: number };

const TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

export type Gateway = Awaited<ReturnType<typeof startGateway>>;

export async function startGateway(t: TestContext, options: { port?: number; name?: string } = {}) {
  const links: LinkEnd[] = [];
  const emitted: Emitted[] = [];
  const events: { sequence: bigint; acknowledged: boolean }[] = [];
  const state = { holdEmits: false, refuseLinks: false, attempts: 0 };
  const python: Models = models();
  const server = await startPython(t, options.port, (grpcServer) => {
    python.serve(grpcServer);
    grpcServer.addService(serviceDefinition(LinkService), {
      attach: ((stream: Stream) => {
        state.attempts += 1;
        void attach(stream).catch((error: Error) => stream.emit("error", { code: 16, details: error.message }));
      }) as grpc.handleBidiStreamingCall<any, any>,
    });
  });

  async function attach(stream: Stream) {
    stream.on("error", () => {});
    const token = String(stream.metadata.get("authorization")[0]).replace(/^Bearer /, "");
    const pending: AttachRequest[] = [];
    const early = (message: AttachRequest) => void pending.push(message);
    stream.on("data", early);
    await jwtVerify(token, Buffer.from(SECRET), { issuer: "realtime", audience: "hybrid-gateway" });
    if (state.refuseLinks) throw new Error("refused");
    stream.off("data", early);
    const link = new LinkEnd(stream, (emit) => (state.holdEmits ? undefined : keep(emit)));
    stream.on("data", link.receive);
    for (const message of pending) link.receive(message);
    await eventually(() => link.hello, "the hello");
    stream.write({ kind: { case: "welcome", value: { version: 1, gateway: options.name ?? "gateway-1" } } });
    links.push(link);
  }

  /** As the gateway does: the same key in the same channel is published once. */
  function keep({ channel, data, key, latestKey, removed }: Emit): boolean {
    const before = key && emitted.find((one) => one.channel === channel && one.key === key);
    if (before) before.times += 1;
    else emitted.push({ channel, data: read(data), key, latestKey, removed, times: 1 });
    return Boolean(before);
  }

  const link = () => eventually(() => links.findLast((one) => !one.ended), "a link");
  const ask = async (kind: AskInit, asked: AskOptions = {}) => (await link()).ask(kind, asked);
  return {
    ...{ python, links, emitted, events, state, link, ask, env: server.env, port: server.port, stop: server.stop },
    recommend: server.recommend,
    subscribe: (channel: string, as: string, more: AskOptions = {}) =>
      ask({ case: "subscribe", value: { channel } }, { as, ...more }).then(decision),
    publish: (channel: string, data: unknown, as: string, key: string, more: AskOptions = {}) =>
      ask({ case: "publish", value: { channel, data: json(data), key } }, { as, ...more }).then(decision),
    call: (method: string, data: unknown, as: string, more: AskOptions = {}) =>
      ask({ case: "call", value: { method, data: json(data) } }, { as, ...more }).then(decision),
    emittedOn: (channel: string) => emitted.filter((one) => one.channel === channel),
    found: (channel: string, match: (data: any, one: Emitted) => boolean) =>
      eventually(() => emitted.find((one) => one.channel === channel && match(one.data, one)), `an emit on ${channel}`),
  };
}

/** One attached application, seen from the gateway. */
class LinkEnd {
  readonly #stream: Stream;
  readonly #emit: (emit: Emit) => boolean | undefined;
  readonly #answers = new Map<bigint, (answer: Answer) => void>();
  readonly #held: Emit[] = [];
  readonly revoked: Revoke[] = [];
  hello: Hello | undefined;
  acknowledged = 0n;
  leaving = false;
  ended = false;
  #lastId = 0n;

  constructor(stream: Stream, emit: (emit: Emit) => boolean | undefined) {
    this.#stream = stream;
    this.#emit = emit;
    stream.on("cancelled", () => (this.ended = true)).on("close", () => (this.ended = true));
    stream.on("end", () => {
      this.ended = true;
      stream.end();
    });
  }

  get held(): readonly Emit[] {
    return this.#held;
  }

  receive = ({ kind }: AttachRequest) => {
    if (kind.case === "hello") this.hello = kind.value;
    else if (kind.case === "answer") this.#answers.get(kind.value.id)?.(kind.value);
    else if (kind.case === "revoke") this.revoked.push(kind.value);
    else if (kind.case === "acknowledge") this.acknowledged = kind.value.sequence;
    else if (kind.case === "leaving") this.leaving = true;
    else if (kind.case === "emit") {
      const duplicate = this.#emit(kind.value);
      if (duplicate === undefined) this.#held.push(kind.value);
      else this.send({ case: "emitted", value: { id: kind.value.id, duplicate } });
    }
  };

  send(kind: MessageInitShape<typeof AttachResponseSchema>["kind"]) {
    if (!this.ended) this.#stream.write(create(AttachResponseSchema, { kind: kind! }));
  }

  /** Resolves with the answer; never where none comes. `started` gives the ask's id, for a withdrawal. */
  ask(kind: AskInit, { as = "alice", timeoutMs = 5_000, again = false, ...more }: AskOptions = {}): Promise<Answer> {
    this.#lastId += 1n;
    const id = this.#lastId;
    const actor = { session: more.session ?? `s-${as}`, subject: as, kind: more.kind ?? "user", scope: "notes" };
    const answer = new Promise<Answer>((resolve) => this.#answers.set(id, resolve));
    const traceparent = more.traceparent ?? TRACE;
    this.send({ case: "ask", value: { id, timeoutMs, again, actor, traceparent, kind } });
    return answer;
  }

  withdraw() {
    this.send({ case: "withdraw", value: { id: this.#lastId } });
  }

  left(sequence: bigint, channel: string, subject: string) {
    const actor = { session: `s-${subject}`, subject, kind: "user", scope: "" };
    this.send({ case: "event", value: { sequence, kind: { case: "left", value: { actor, channel } } } });
  }

  /** Breaks the stream, as a gateway that dies does. */
  break() {
    this.ended = true;
    this.#stream.emit("error", { code: grpc.status.UNAVAILABLE, details: "broken" });
  }
}

const json = (data: unknown) => ({ kind: { case: "json" as const, value: JSON.stringify(data) } });

function read(payload: Payload | undefined): any {
  return payload?.kind.case === "json" ? JSON.parse(payload.kind.value) : payload?.kind.value;
}

/** What an answer decides, with its payloads read: an error's parts, or the answer's. */
export function decision({ kind }: Answer): any {
  if (kind.case === "error") {
    const { code, message, reason, retryAfterMs } = kind.value;
    return { error: code, message, reason, retryAfterMs };
  }
  assert.ok(kind.case, "an answer decides something");
  const { data, publish, member, ...value } = kind.value as any;
  return { ...value, data: read(data), publish: read(publish), member: read(member) };
}
