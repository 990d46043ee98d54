// Boards as a feature of channels: points as they come (telemetry:), and what boards show of them (board:), with who is
// looking at it.
import type { Channels } from "../channels/channels.ts";
import {
  type Channel,
  defineMethods,
  defineNamespace,
  type Feature,
  type HookContext,
  method,
} from "../channels/registry.ts";
import { requireUser } from "../identity.ts";
import { Problem } from "../problems.ts";
import type { LiveBoards } from "./live.ts";
import { DEVICE, DevicePoints, NewBoard, Nothing, OneBoard } from "./schemas.ts";
import type { Telemetry, TelemetryPoint } from "./telemetry.ts";

type Dependencies = { live: LiveBoards; telemetry: Telemetry };

/** Keys of a board: its series, four of each. */
const KEYS = 1_024;
/** Also a board on which nothing moves is still there tomorrow. */
const DAY = 86_400;

export function boardsFeature({ live, telemetry }: Dependencies): Feature {
  const points = defineNamespace({
    name: "telemetry",
    kind: "live",
    rate: 20,
    message: DevicePoints,
    subscribe: async (context, channel) => {
      requireUser(context.actor);
      deviceOf(channel);
      return undefined;
    },
    publish: async (context, channel, { points }) => {
      const device = deviceOf(channel);
      const { subject } = requireUser(context.actor);
      const taken = await telemetry.take(
        points.map((point) => ({ device, ...point })),
        subject,
      );
      return { publish: shown(taken.accepted), silent: taken.accepted.length === 0, data: taken.counts };
    },
  });
  const board = defineNamespace({
    name: "board",
    kind: "latest",
    history: KEYS,
    historySeconds: DAY,
    presence: true,
    subscribe: async (context, { path }) => {
      requireUser(context.actor);
      const { values: _, ...about } = live.get(path);
      return { data: about };
    },
    publish: "deny",
  });
  return { namespaces: [points, board], methods: [methods(live)] };
}

/** Shows points that came some other way to those who look at their devices. */
export function tellPoints(channels: Pick<Channels, "tell">, accepted: TelemetryPoint[]) {
  for (const [device, some] of Map.groupBy(accepted, (point) => point.device)) {
    channels.tell({ channel: `telemetry:${device}`, data: shown(some) });
  }
}

function shown(points: TelemetryPoint[]) {
  return { points: points.map(({ metric, time, value }) => ({ metric, time, value })) };
}

function methods(live: LiveBoards) {
  const user = ({ actor }: HookContext) => requireUser(actor).subject;
  return defineMethods("boards", {
    list: method(Nothing, async (context) => {
      user(context);
      return { boards: live.list() };
    }),
    get: method(OneBoard, async (context, { board }) => {
      user(context);
      return live.get(board);
    }),
    put: method(NewBoard, async (context, settings) => {
      const board = { ...settings, owner: user(context) };
      live.put(board);
      return board;
    }),
  });
}

function deviceOf({ path }: Channel): string {
  if (new RegExp(DEVICE).test(path)) return path;
  throw new Problem("invalid_argument", `${path} is no device; allowed are 1 to 48 letters, digits and _.-`);
}
