// Puts chat together: what it serves, and what it does by itself while the service runs.
import type { AiClient } from "../ai/client.ts";
import type { Channels } from "../channels/channels.ts";
import type { Database } from "../db/database.ts";
import type { GroupCommit } from "../db/group.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import { Answers } from "./answers.ts";
import { chatFeature } from "./feature.ts";
import { Messages } from "./messages.ts";
import { Reviews } from "./reviews.ts";
import { Rooms } from "./rooms.ts";

type Dependencies = {
  ai: AiClient;
  database: Database;
  group: GroupCommit;
  channels: Channels;
  log: Log;
  metrics: Metrics;
  config: { reviewMs: number; refuseScore: number; answerMs: number; answers: number };
};

const PRUNE_MS = 3_600_000;

export function createChat(deps: Dependencies) {
  const rooms = new Rooms(deps.database);
  const messages = new Messages(deps.database);
  const reviews = new Reviews({ ...deps, messages });
  const answers = new Answers({ ...deps, rooms, messages, reviews });
  reviews.onWithdrawn((id) => answers.drop(id));
  const pruning = setInterval(() => messages.pruneKeys(), PRUNE_MS).unref();
  return {
    feature: chatFeature({ ...deps, rooms, messages, reviews, answers }),
    start: () => {
      messages.pruneKeys();
      reviews.wake();
      answers.wake();
    },
    stop: () => {
      clearInterval(pruning);
      reviews.stop();
      answers.stop();
    },
  };
}
