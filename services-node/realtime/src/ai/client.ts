// Python's search and recommendations, called through the gateway's internal listener as this service.
// Each call carries identity, request id, trace and deadline, and is counted.

import * as grpc from "@grpc/grpc-js";
import { RecommendService, SearchService } from "@hybrid/contracts";
import { type Client, createClient } from "@hybrid/contracts/grpc";
import { deadlineWithin, type RequestContext } from "../context.ts";
import type { ServiceToken } from "../identity.ts";
import type { Metrics } from "../metrics.ts";

type Search = Client<typeof SearchService>;
type Recommend = Client<typeof RecommendService>;
type Request<K extends keyof Search> = Parameters<Search[K]>[0];
type Interaction = Parameters<Recommend["recordInteraction"]>[0] extends Iterable<infer T> ? T : never;

const CHANNEL_OPTIONS: grpc.ClientOptions = {
  // The default waits up to two minutes before it tries an unreachable address again.
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 1_000,
  "grpc.keepalive_time_ms": 20_000,
  "grpc.keepalive_timeout_ms": 5_000,
  "grpc.max_send_message_length": 4 << 20,
};

export class AiClient {
  readonly #connection: grpc.Client;
  readonly #search: Search;
  readonly #recommend: Recommend;
  readonly #options: { token: ServiceToken; timeoutMs: number; metrics: Metrics };

  constructor(gateway: URL, options: { token: ServiceToken; timeoutMs: number; metrics: Metrics }) {
    this.#connection = new grpc.Client(gateway.host, grpc.credentials.createInsecure(), CHANNEL_OPTIONS);
    this.#search = createClient(SearchService, this.#connection);
    this.#recommend = createClient(RecommendService, this.#connection);
    this.#options = options;
  }

  index(request: Request<"index">, context: RequestContext, signal?: AbortSignal) {
    return this.#call("Index", context, signal, (options) => this.#search.index(request, options));
  }

  delete(request: Request<"delete">, context: RequestContext, signal?: AbortSignal) {
    return this.#call("Delete", context, signal, (options) => this.#search.delete(request, options));
  }

  search(request: Request<"search">, context: RequestContext, signal?: AbortSignal) {
    return this.#call("Search", context, signal, (options) => this.#search.search(request, options));
  }

  listItems(request: Parameters<Recommend["listItems"]>[0], context: RequestContext, signal?: AbortSignal) {
    return this.#call("ListItems", context, signal, (options) => this.#recommend.listItems(request, options));
  }

  recommend(request: Parameters<Recommend["recommend"]>[0], context: RequestContext, signal?: AbortSignal) {
    return this.#call("Recommend", context, signal, (options) => this.#recommend.recommend(request, options));
  }

  /** Records one interaction; the answer says that it is durable. */
  recordInteraction(interaction: Interaction, context: RequestContext, signal?: AbortSignal) {
    return this.#call("RecordInteraction", context, signal, async (options) => {
      for await (const answer of this.#recommend.recordInteraction([interaction], options)) return answer;
      throw new Error("Python answered an interaction with nothing");
    });
  }

  close() {
    this.#connection.close();
  }

  async #call<T>(
    method: string,
    context: RequestContext,
    signal: AbortSignal | undefined,
    start: (options: { deadline: Date; metadata: grpc.Metadata; signal?: AbortSignal }) => Promise<T>,
  ): Promise<T> {
    const { token, timeoutMs, metrics } = this.#options;
    const metadata = new grpc.Metadata();
    metadata.set("authorization", `Bearer ${await token.get()}`);
    metadata.set("x-request-id", context.requestId);
    metadata.set("traceparent", context.traceparent);
    if (context.onBehalfOf !== undefined) metadata.set("x-hybrid-on-behalf-of", context.onBehalfOf);
    try {
      const response = await start({
        deadline: deadlineWithin(context, timeoutMs),
        metadata,
        ...(signal && { signal }),
      });
      metrics.aiCalls.inc({ method, status: "OK" });
      return response;
    } catch (error) {
      metrics.aiCalls.inc({ method, status: statusName(error) });
      throw error;
    }
  }
}

/** The name of a failed call's gRPC status; UNKNOWN for what is not one. */
export function statusName(error: unknown): string {
  const code = (error as Partial<grpc.ServiceError>).code;
  return (typeof code === "number" ? grpc.status[code] : undefined) ?? "UNKNOWN";
}
