// Telemetry as it is sent, and boards as they are set up and shown.
import { type Static, Type } from "typebox";

export const DEVICE = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,47}$";
export const BOARD = "^[a-z0-9][a-z0-9-]{0,47}$";
/** What Python's forecasts take. */
const LARGEST = 1e12;

const exact = { additionalProperties: false };
const Device = Type.String({ pattern: DEVICE, description: "1 to 48 letters, digits and _.-, for example boiler-1." });
const Metric = Type.String({ pattern: DEVICE, description: "For example temperature; named like devices." });
const Time = Type.Integer({
  minimum: -8.64e15,
  maximum: 8.64e15,
  description: "When it was measured: milliseconds since 1970.",
});
const Value = Type.Number({ minimum: -LARGEST, maximum: LARGEST });

export const MOST_POINTS = 1_000;
export const Telemetry = Type.Object(
  {
    points: Type.Array(Type.Object({ device: Device, metric: Metric, time: Time, value: Value }, exact), {
      minItems: 1,
      maxItems: MOST_POINTS,
    }),
  },
  exact,
);
/** What a client publishes to telemetry:<device>. */
export const DevicePoints = Type.Object(
  {
    points: Type.Array(Type.Object({ metric: Metric, time: Time, value: Value }, exact), {
      minItems: 1,
      maxItems: 100,
    }),
  },
  exact,
);

export const Counts = Type.Object(
  {
    accepted: Type.Integer({ description: "Are on disk and count." }),
    late: Type.Integer({ description: "Came after their window had closed, and do not count." }),
    duplicate: Type.Integer({ description: "Were there already: the same series and time." }),
    early: Type.Integer({ description: "Are more than a minute ahead of this service's clock, and do not count." }),
  },
  { description: "What became of the points." },
);

const Season = Type.Integer({
  minimum: 0,
  maximum: 366,
  default: 0,
  description: "How many windows make a season, for forecasts and anomalies; 0: none.",
});
const Name = Type.String({ pattern: BOARD, description: "1 to 48 small letters, digits and -." });
export const OneBoard = Type.Object({ board: Name }, exact);
export const NewBoard = Type.Object(
  { board: Name, devices: Type.Array(Device, { minItems: 1, maxItems: 32, uniqueItems: true }), season: Season },
  exact,
);
export const Nothing = Type.Object({}, exact);

export type Counts = Static<typeof Counts>;
/** Devices that are looked at together. */
export type Board = { board: string; owner: string; devices: string[]; season: number };

/** A window's mean, and what was expected; `score`: by how many standard deviations it is off. */
export type Judged = { start: number; value: number; expected: number; score: number };

type About = { device: string; metric: string };
/** What is emitted on board:<name>; its key is device/metric/1s, /1m, /forecast or /anomaly. */
export type BoardValue = About &
  (
    | { type: "window"; seconds: number; start: number; count: number; min: number; max: number; mean: number }
    | {
        type: "forecast";
        status: "fresh";
        /** Where the first point begins, and how far the points are apart. */
        start: number;
        step_ms: number;
        model: string;
        points: { value: number; low: number; high: number }[];
      }
    | { type: "forecast"; status: "missing"; reason: "unavailable" | "too_late" | "irregular" | "too_short" }
    | ({
        type: "anomaly";
        status: "learning" | "normal" | "anomaly";
        /** Newer verdicts may have taken the place of the one that said so. */
        last_anomaly: Judged | null;
      } & Judged)
    | { type: "anomaly"; status: "missing"; reason: "unavailable" }
  );
