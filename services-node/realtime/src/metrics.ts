// The service's metrics (Prometheus). One registry per application, so that tests can build
// several in one process.
import { monitorEventLoopDelay } from "node:perf_hooks";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

/** Reads a value at the moment of a scrape. */
type Probe = () => number;

export type Metrics = ReturnType<typeof createMetrics>;

export function createMetrics() {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const loop = eventLoopDelay(registry);
  const counter = <L extends string = never>(name: string, help: string, labelNames: L[] = []) =>
    new Counter<L>({ name, help, labelNames, registers });
  const histogram = <L extends string>(name: string, help: string, labelNames: L[], buckets: number[]) =>
    new Histogram<L>({ name, help, labelNames, buckets, registers });
  return {
    registry,
    stop: () => loop.disable(),
    /** Adds a gauge that is read at scrape time. */
    probe: (name: string, help: string, read: Probe) =>
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(read());
        },
      }),
    requests: histogram(
      "realtime_http_request_duration_seconds",
      "Duration of HTTP requests, by route.",
      ["method", "route", "status"],
      [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5],
    ),
    queries: histogram(
      "realtime_db_query_duration_seconds",
      "Duration of database queries, which block the event loop, by statement.",
      ["query"],
      [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.25, 1],
    ),
    slowQueries: counter("realtime_db_slow_queries_total", "Queries slower than REALTIME_SLOW_QUERY_MS.", ["query"]),
    aiCalls: counter("realtime_ai_calls_total", "Calls to Python, by method and gRPC status.", ["method", "status"]),
    outboxDelivered: counter("realtime_outbox_delivered_total", "Deliveries that Python accepted."),
    outboxFailures: counter("realtime_outbox_failures_total", "Failed deliveries, by gRPC status.", ["status"]),
    sseEvents: counter("realtime_sse_events_total", "Events written to SSE clients."),
    sseSlowClients: counter("realtime_sse_slow_clients_total", "SSE clients closed because they read too slowly."),
    sseResets: counter("realtime_sse_resets_total", "SSE resumptions that were too old."),
    collabUpdates: counter("realtime_collab_updates_total", "Document updates made durable."),
    collabRefused: counter("realtime_collab_refused_total", "Refused document connections, by reason.", ["reason"]),
    collabFailures: counter("realtime_collab_failures_total", "Failed loads and writes of documents.", ["operation"]),
    collabSettled: counter("realtime_collab_settled_total", "Edits that settled into their note."),
    catalogueFresh: counter("realtime_catalogue_fresh_total", "Catalogue pages with fresh recommendations."),
    catalogueMissing: counter("realtime_catalogue_missing_total", "Catalogue pages without, by reason.", ["reason"]),
    channelAsks: histogram(
      "realtime_channels_ask_duration_seconds",
      "Duration of what the gateway asked, by kind, namespace or method, and outcome.",
      ["kind", "name", "outcome"],
      [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5],
    ),
    channelEmits: counter("realtime_channels_emits_total", "Publications by this service, by outcome.", ["outcome"]),
    channelEvents: counter("realtime_channels_events_total", "What the gateway told, by kind.", ["kind"]),
    channelLinkEnds: counter("realtime_channels_link_ends_total", "Ends of the link, by gRPC status.", ["status"]),
    chatReviews: counter("realtime_chat_reviews_total", "Judgements of messages, by outcome.", ["outcome"]),
    chatAnswers: counter("realtime_chat_answers_total", "Answers of the assistant, by outcome.", ["outcome"]),
    telemetryPoints: counter("realtime_telemetry_points_total", "Points of telemetry, by outcome.", ["outcome"]),
    boardForecasts: counter("realtime_board_forecasts_total", "Forecasts for boards, by outcome.", ["outcome"]),
    boardVerdicts: counter("realtime_board_verdicts_total", "Verdicts on windows, by verdict.", ["verdict"]),
    relatedPushes: counter("realtime_related_pushes_total", "Pushes of related passages."),
    relatedFailures: counter("realtime_related_failures_total", "Searches for related passages that failed."),
  };
}

function eventLoopDelay(registry: Registry) {
  const delay = monitorEventLoopDelay({ resolution: 10 });
  delay.enable();
  new Gauge({
    name: "realtime_event_loop_delay_seconds",
    help: "Delay of the event loop since the last scrape.",
    labelNames: ["quantile"],
    registers: [registry],
    collect() {
      for (const quantile of [50, 99, 100]) {
        this.set({ quantile: quantile / 100 }, delay.percentile(quantile) / 1e9 || 0);
      }
      delay.reset();
    },
  });
  return delay;
}
