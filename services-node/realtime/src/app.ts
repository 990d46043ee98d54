// Composes the service from its features, without listening: the only module that knows all
// of them. `main.ts` gives it a configuration; tests build it on a temporary folder.
import swagger from "@fastify/swagger";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import Fastify, { type FastifyBaseLogger, LogController } from "fastify";
import { AiClient } from "./ai/client.ts";
import { createBoards } from "./boards/boards.ts";
import { telemetryRoutes } from "./boards/routes.ts";
import { FilmList } from "./catalogue/films.ts";
import { Picks, picksFeature } from "./catalogue/picks.ts";
import { Recommendations } from "./catalogue/recommendations.ts";
import { catalogueRoutes } from "./catalogue/routes.ts";
import { CatalogueSync } from "./catalogue/sync.ts";
import { ChangeFeed } from "./changes/feed.ts";
import { ChangeRepository } from "./changes/repository.ts";
import { changeRoutes } from "./changes/routes.ts";
import { Channels } from "./channels/channels.ts";
import { callRoutes } from "./channels/routes.ts";
import { createChat } from "./chat/chat.ts";
import { CollabDocuments } from "./collab/documents.ts";
import { RelatedPassages } from "./collab/related.ts";
import { CollabSockets } from "./collab/sockets.ts";
import { DocumentStore } from "./collab/store.ts";
import type { Config } from "./config.ts";
import { requestIdOf } from "./context.ts";
import { GroupCommit } from "./db/group.ts";
import { Journal } from "./db/journal.ts";
import { openDatabase } from "./db/open.ts";
import { useHttp, useIdentity } from "./http.ts";
import { IdentityVerifier, ServiceToken } from "./identity.ts";
import type { Log } from "./log.ts";
import { createMetrics, type Metrics } from "./metrics.ts";
import { mayRead, NoteRepository } from "./notes/repository.ts";
import { noteRoutes } from "./notes/routes.ts";
import { OutboxRepository } from "./outbox/repository.ts";
import { OutboxWorker } from "./outbox/worker.ts";
import { pageRoutes } from "./pages/routes.ts";
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
  const verifier = new IdentityVerifier(config.secret);
  const token = new ServiceToken(config.secret);
  const ai = new AiClient(config.ai.gateway, { token, timeoutMs: config.ai.timeoutMs, metrics });
  const shared = { ai, log, metrics };

  const rows = new OutboxRepository(database);
  const outbox = new OutboxWorker({ ...shared, rows, findNote: (id) => notes.find(id), config: config.outbox });
  const feed = new ChangeFeed(new ChangeRepository(database), config.changes, metrics);
  const related = new RelatedPassages({ ...shared, mayRead: readableBy(notes) });
  const documentStore = new DocumentStore(database);
  const documents = new CollabDocuments({
    ...{ database, store: documentStore, notes, related, log, metrics },
    config: config.collab,
  });
  notes.mirrorTo(documents);
  journal.onChange(feed.publish);
  journal.onChange(outbox.wake);
  journal.onChange((change) => change.kind === "shared" && documents.recheck(change.note_id));

  const films = new FilmList(database);
  const sync = new CatalogueSync({ ai, films, log });
  const recommendations = new Recommendations({ ...shared, timeoutMs: config.catalogue.recommendMs });

  const channels = new Channels({
    ...{ gateway: config.ai.gateway, token, database, log, metrics },
    config: config.channels,
  });
  const group = new GroupCommit(database);
  const picks = new Picks(recommendations, channels);
  const chat = createChat({ ...shared, database, group, channels, config: config.chat });
  const boards = createBoards({ ...shared, database, group, channels, config: config.boards });
  channels.serve(chat.feature, boards.feature, picksFeature());

  const state = { draining: false };
  const http = await createHttp(log, metrics, state);
  await http.register(pageRoutes);
  await http.register(async (scope) => {
    useIdentity(scope, verifier);
    await scope.register(noteRoutes, { notes });
    await scope.register(catalogueRoutes, { films, recommendations, picks });
    await scope.register(telemetryRoutes, { telemetry: boards.telemetry, channels });
    await scope.register(callRoutes, { registry: channels.registry });
    await scope.register(changeRoutes, { feed, maxClients: config.changes.maxClients });
  });
  const sockets = new CollabSockets(http.server, {
    hocuspocus: documents.hocuspocus,
    verifier,
    log,
    config: config.collab,
  });
  probe(metrics, { rows, feed, documents, sockets });

  return {
    http,
    metrics,
    /** Serves HTTP and starts the background work. Gives the address. */
    start: async () => {
      await documents.recover();
      const address = await http.listen(config.listen);
      outbox.wake();
      feed.prune();
      sync.start();
      chat.start();
      boards.start();
      channels.start();
      return address;
    },
    /** Stops accepting, finishes what runs within the bound, and closes the files. */
    close: async () => {
      state.draining = true;
      chat.stop();
      boards.stop();
      await channels.stop(config.shutdownMs / 4);
      documents.settleAll();
      related.stop();
      sync.stop();
      await sockets.close();
      await http.close();
      await outbox.stop(config.shutdownMs / 4);
      ai.close();
      metrics.stop();
      store.close();
    },
  };
}

/** Documents of other collections are Python's to judge; notes are known here first. */
function readableBy(notes: NoteRepository) {
  return (documentId: string, subject: string) => {
    if (!documentId.startsWith("notes/")) return true;
    const note = notes.find(documentId.slice("notes/".length));
    return note !== undefined && mayRead(note, subject);
  };
}

async function createHttp(log: Log, metrics: Metrics, state: { draining: boolean }) {
  const http = Fastify({
    loggerInstance: log as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: "request_id" }),
    bodyLimit: BODY_LIMIT,
    genReqId: (request) => requestIdOf(request.headers),
    forceCloseConnections: "idle",
    return503OnClosing: false,
  }).withTypeProvider<TypeBoxTypeProvider>();
  http.removeContentTypeParser("text/plain");
  useValidation(http);
  useHttp(http, metrics);
  await http.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "Notes, films, chat and telemetry",
        version: "1",
        description: "Notes, shared and live; films, recommended; what channels can be asked; points of devices.",
      },
    },
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

type Probed = { rows: OutboxRepository; feed: ChangeFeed; documents: CollabDocuments; sockets: CollabSockets };

function probe({ probe }: Metrics, { rows, feed, documents, sockets }: Probed) {
  probe("realtime_outbox_pending", "Rows that wait for Python.", () => rows.count("pending"));
  probe("realtime_outbox_dead", "Parked rows that Python refuses.", () => rows.count("dead"));
  probe("realtime_outbox_lag_seconds", "Age of the oldest waiting row.", () => rows.lag(Date.now()) / 1000);
  probe("realtime_sse_clients", "Clients that follow the changes.", () => feed.size);
  probe("realtime_collab_connections", "Open collaboration sockets.", () => sockets.size);
  probe("realtime_collab_documents", "Documents in memory.", () => documents.size);
}

function observeQueries(config: Config, metrics: Metrics, log: Log) {
  return (query: string, milliseconds: number) => {
    metrics.queries.observe({ query }, milliseconds / 1000);
    if (milliseconds < config.slowQueryMs) return;
    metrics.slowQueries.inc({ query });
    log.warn({ query, ms: Math.round(milliseconds) }, "slow query");
  };
}
