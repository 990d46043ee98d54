// What a board's channels carry and its methods answer, as realtime/src/boards decides: the page and the service share
// types.

type Series = { device: string; metric: string };

export type WindowValue = Series & {
  type: "window";
  seconds: number;
  start: number;
  count: number;
  min: number;
  max: number;
  mean: number;
};
export type Forecast = Series & { type: "forecast" } & (
    | {
        status: "fresh";
        start: number;
        step_ms: number;
        model: string;
        points: { value: number; low: number; high: number }[];
      }
    | { status: "missing"; reason: string }
  );
export type Anomaly = Series & { type: "anomaly" } & (
    | { status: "learning" | "normal" | "anomaly"; start: number; value: number; expected: number; score: number }
    | { status: "missing"; reason: string }
  );
export type BoardValue = WindowValue | Forecast | Anomaly;

export type Board = { board: string; owner: string; devices: string[]; season: number };
type Points = { points: { metric: string; time: number; value: number }[] };

export type BoardTypes = {
  channels: {
    board: { publication: BoardValue };
    telemetry: { publication: Points; publish: Points };
  };
  methods: {
    "boards.list": { request: object; response: { boards: Board[] } };
    "boards.put": { request: { board: string; devices: string[]; season?: number }; response: Board };
  };
};
