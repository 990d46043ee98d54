// Python, called through the gateway's internal listener as this service. Each call carries identity, request id, trace
// and deadline, and is counted.

import type { MessageInitShape } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import {
  AssistantService,
  type DetectAnomaliesRequestSchema,
  type DetectAnomaliesResponse,
  ForecastService,
  RecommendService,
  SearchService,
  TextService,
} from "@hybrid/contracts";
import { type Client, createClient, openStream } from "@hybrid/contracts/grpc";
import { deadlineWithin, type RequestContext } from "../context.ts";
import type { ServiceToken } from "../identity.ts";
import type { Metrics } from "../metrics.ts";

type Search = Client<typeof SearchService>;
type Recommend = Client<typeof RecommendService>;
type Assistant = Client<typeof AssistantService>;
type Forecast = Client<typeof ForecastService>;
type Text = Client<typeof TextService>;
type Options = { deadline: Date; metadata: grpc.Metadata; signal?: AbortSignal };
/** A stream of points to judge, and of verdicts on them. */
export type AnomalyStream = grpc.ClientDuplexStream<
  MessageInitShape<typeof DetectAnomaliesRequestSchema>,
  DetectAnomaliesResponse
>;
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
  readonly #assistant: Assistant;
  readonly #forecast: Forecast;
  readonly #text: Text;
  readonly #options: { token: ServiceToken; timeoutMs: number; metrics: Metrics };

  constructor(gateway: URL, options: { token: ServiceToken; timeoutMs: number; metrics: Metrics }) {
    this.#connection = new grpc.Client(gateway.host, grpc.credentials.createInsecure(), CHANNEL_OPTIONS);
    this.#search = createClient(SearchService, this.#connection);
    this.#recommend = createClient(RecommendService, this.#connection);
    this.#assistant = createClient(AssistantService, this.#connection);
    this.#forecast = createClient(ForecastService, this.#connection);
    this.#text = createClient(TextService, this.#connection);
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

  moderate(request: Parameters<Text["moderate"]>[0], context: RequestContext, signal?: AbortSignal) {
    return this.#call("Moderate", context, signal, (options) => this.#text.moderate(request, options));
  }

  forecast(request: Parameters<Forecast["forecast"]>[0], context: RequestContext, signal?: AbortSignal) {
    return this.#call("Forecast", context, signal, (options) => this.#forecast.forecast(request, options));
  }

  /** Events of an answer; at most for so long. Aborting stops Python's work. */
  answer(request: Parameters<Assistant["answer"]>[0], context: RequestContext, limitMs: number, signal: AbortSignal) {
    return this.#stream("Answer", context, limitMs, signal, (options) => this.#assistant.answer(request, options));
  }

  /** Events of a chat's reply; at most for so long. Aborting stops Python's work. */
  chat(request: Parameters<Assistant["chat"]>[0], context: RequestContext, limitMs: number, signal: AbortSignal) {
    return this.#stream("Chat", context, limitMs, signal, (options) => this.#assistant.chat(request, options));
  }

  /** A stream that stays open while points come; its end and its errors are the caller's to see. */
  async detectAnomalies(context: RequestContext, signal: AbortSignal): Promise<AnomalyStream> {
    const metadata = await this.#metadata(context);
    return openStream(this.#connection, ForecastService.method.detectAnomalies, { metadata, signal });
  }

  close() {
    this.#connection.close();
  }

  async #call<T>(
    method: string,
    context: RequestContext,
    signal: AbortSignal | undefined,
    start: (options: Options) => Promise<T>,
  ): Promise<T> {
    const { timeoutMs, metrics } = this.#options;
    const metadata = await this.#metadata(context);
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

  async *#stream<T>(
    method: string,
    context: RequestContext,
    limitMs: number,
    signal: AbortSignal,
    start: (options: Options) => AsyncIterable<T>,
  ): AsyncGenerator<T> {
    const metadata = await this.#metadata(context);
    try {
      yield* start({ deadline: deadlineWithin(context, limitMs), metadata, signal });
      this.#options.metrics.aiCalls.inc({ method, status: "OK" });
    } catch (error) {
      this.#options.metrics.aiCalls.inc({ method, status: statusName(error) });
      throw error;
    }
  }

  async #metadata(context: RequestContext): Promise<grpc.Metadata> {
    const metadata = new grpc.Metadata();
    metadata.set("authorization", `Bearer ${await this.#options.token.get()}`);
    metadata.set("x-request-id", context.requestId);
    metadata.set("traceparent", context.traceparent);
    if (context.onBehalfOf !== undefined) metadata.set("x-hybrid-on-behalf-of", context.onBehalfOf);
    return metadata;
  }
}

/** The name of a failed call's gRPC status; UNKNOWN for what is not one. */
export function statusName(error: unknown): string {
  const code = (error as Partial<grpc.ServiceError>).code;
  return (typeof code === "number" ? grpc.status[code] : undefined) ?? "UNKNOWN";
}
