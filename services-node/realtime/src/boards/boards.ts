// Puts telemetry and boards together: what they serve, and what they do by themselves while the service runs.
import type { AiClient } from "../ai/client.ts";
import type { Channels } from "../channels/channels.ts";
import type { Database } from "../db/database.ts";
import type { GroupCommit } from "../db/group.ts";
import type { Metrics } from "../metrics.ts";
import { Anomalies } from "./anomalies.ts";
import { boardsFeature } from "./feature.ts";
import { Forecasts } from "./forecasts.ts";
import { LiveBoards } from "./live.ts";
import { BoardRepository } from "./repository.ts";
import { Telemetry } from "./telemetry.ts";

type Dependencies = {
  ai: AiClient;
  database: Database;
  group: GroupCommit;
  channels: Channels;
  metrics: Metrics;
  config: { latenessMs: number; idleMs: number; series: number; points: number; forecastEvery: number };
};

export function createBoards(deps: Dependencies) {
  const boards = new BoardRepository(deps.database);
  const telemetry = new Telemetry({ ...deps, boards });
  const forecasts = new Forecasts(deps);
  const anomalies = new Anomalies(deps);
  const live = new LiveBoards({ ...deps, boards, forecasts, anomalies });
  telemetry.onClosed(live.closed);
  deps.channels.onAttached(() => void live.showAll());
  deps.channels.onDetached(() => anomalies.rest());
  deps.metrics.probe("realtime_telemetry_series", "Series of telemetry.", () => telemetry.size);
  return {
    feature: boardsFeature({ live, telemetry }),
    telemetry,
    start: () => telemetry.start(),
    stop: () => {
      telemetry.stop();
      forecasts.stop();
      anomalies.stop();
    },
  };
}
