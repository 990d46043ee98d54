// Composes the service from its features, without listening: the only module that knows all
// of them. `main.ts` gives it a configuration; tests build it on a temporary folder.
import swagger from "@fastify/swagger";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import Fastify, { type FastifyBaseLogger } from "fastify";
import { AiClient } from "./ai/client.ts";
import type { Config } from "./config.ts";
import { requestIdOf } from "./context.ts";
import { Journal } from "./db/journal.ts";
import { openDatabase } from "./db/open.ts";
import { useHttp, useIdentity } from "./http.ts";
import { IdentityVerifier, ServiceToken } from "./identity.ts";
import type { Log } from "./log.ts";
import { createMetrics, type Metrics } from "./metrics.ts";
import { NoteRepository } from "./notes/repository.ts";
import { noteRoutes } from "./notes/routes.ts";
import { OutboxRepository } from "./outbox/repository.ts";
import { OutboxWorker } from "./outbox/worker.ts";
import { Problem } from "./problems.ts";
import { useValidation } from "./validation.ts";

const BODY_LIMIT = 1 << 20;

export type App = Awaited<ReturnType<typeof createApp>>;

export async function createApp(config: Config, log: Log) {
  const metrics = createMetrics();
  const store = openDatabase(config.dataDir, observeQueries(config, metrics, log));
  const { database } = store;
  const journal = new Journal(database);
  const notes = new NoteRepository(database, journal);
  const ai = new AiClient(config.ai.gateway, {
    token: new ServiceToken(config.secret),
    timeoutMs: config.ai.timeoutMs,
    metrics,
  });
  const outboxRows = new OutboxRepository(database);
  const findNote = (id: string) => notes.find(id);
  const outbox = new OutboxWorker({ rows: outboxRows, findNote, ai, log, metrics, config: config.outbox });
  journal.onChange(outbox.wake);
  const verifier = new IdentityVerifier(config.secret);
  const state = { draining: false };

  const http = await createHttp(log, metrics, state);
  await http.register(async (scope) => {
    useIdentity(scope, verifier);
    await scope.register(noteRoutes, { notes, beforeWrite: () => {} });
  });
  probe(metrics, outboxRows);

  return {
    http,
    metrics,
    /** Serves HTTP and starts the background work. Gives the address. */
    start: async () => {
      const address = await http.listen(config.listen);
      outbox.wake();
      return address;
    },
    /** Stops accepting, finishes what runs within the bound, and closes the files. */
    close: async () => {
      state.draining = true;
      await http.close();
      await outbox.stop(config.shutdownMs / 4);
      ai.close();
      metrics.stop();
      store.close();
    },
  };
}

async function createHttp(log: Log, metrics: Metrics, state: { draining: boolean }) {
  const http = Fastify({
    loggerInstance: log as FastifyBaseLogger,
    disableRequestLogging: true,
    bodyLimit: BODY_LIMIT,
    genReqId: (request) => requestIdOf(request.headers),
    forceCloseConnections: "idle",
    return503OnClosing: false,
  }).withTypeProvider<TypeBoxTypeProvider>();
  useValidation(http);
  useHttp(http, metrics);
  await http.register(swagger, {
    openapi: { openapi: "3.1.0", info: { title: "Notes", version: "1", description: "Notes, shared and live." } },
  });
  const hide = { schema: { hide: true } };
  http.get("/healthz", hide, async () => "ok");
  http.get("/readyz", hide, async () => {
    if (state.draining) throw new Problem("draining", "The service is shutting down.");
    return "ok";
  });
  http.get("/metrics", hide, async (_, reply) => {
    return reply.type(metrics.registry.contentType).send(await metrics.registry.metrics());
  });
  http.get("/api/openapi.json", hide, async () => http.swagger());
  return http;
}

function probe(metrics: Metrics, outbox: OutboxRepository) {
  metrics.probe("realtime_outbox_pending", "Rows that wait for Python.", () => outbox.count("pending"));
  metrics.probe("realtime_outbox_dead", "Parked rows that Python refuses.", () => outbox.count("dead"));
  metrics.probe("realtime_outbox_lag_seconds", "Age of the oldest waiting row.", () => outbox.lag(Date.now()) / 1000);
}

function observeQueries(config: Config, metrics: Metrics, log: Log) {
  return (query: string, milliseconds: number) => {
    metrics.queries.observe({ query }, milliseconds / 1000);
    if (milliseconds < config.slowQueryMs) return;
    metrics.slowQueries.inc({ query });
    log.warn({ query, ms: Math.round(milliseconds) }, "slow query");
  };
}
