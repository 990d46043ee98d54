// Boards as they are shown: of each of their series the newest closed windows, a forecast and a verdict, emitted as they
// change, and emitted anew to a gateway that has none of them.
import type { Channels } from "../channels/channels.ts";
import { Problem } from "../problems.ts";
import type { Anomalies } from "./anomalies.ts";
import type { Forecasts } from "./forecasts.ts";
import type { BoardRepository, SeriesKey } from "./repository.ts";
import type { Board, BoardValue } from "./schemas.ts";
import { type Closed, nameOf } from "./telemetry.ts";
import { SIZES, type Window } from "./windows.ts";

/** A series on a board. `windows`: its newest ones of a second each, oldest first. */
export type Shown = { board: Board; key: SeriesKey; windows: readonly Window[] };

type Dependencies = {
  boards: BoardRepository;
  channels: Pick<Channels, "emit" | "tell">;
  forecasts: Forecasts;
  anomalies: Anomalies;
  config: { forecastEvery: number };
};

/** Windows of a series that are remembered: what a forecast looks at. */
export const REMEMBERED = 240;

export class LiveBoards {
  readonly #deps: Dependencies;
  readonly #boards = new Map<string, Board>();
  readonly #values = new Map<string, Map<string, BoardValue>>();
  readonly #windows = new Map<string, Window[]>();
  readonly #untilForecast = new Map<string, number>();
  #shown = 0;

  constructor(deps: Dependencies) {
    this.#deps = deps;
    for (const board of deps.boards.list()) this.#boards.set(board.board, board);
  }

  list(): Board[] {
    return [...this.#boards.values()];
  }

  /** A board, and the latest value of each of its keys. */
  get(name: string) {
    const board = this.#find(name);
    const values = [...(this.#values.get(name) ?? [])].map(([key, value]) => ({ key, value }));
    return { ...board, values };
  }

  put(board: Board) {
    this.#deps.boards.put(board);
    for (const key of this.#values.get(board.board)?.keys() ?? []) this.#tell(board.board, key, undefined);
    this.#values.delete(board.board);
    this.#deps.anomalies.forget(board.board);
    this.#boards.set(board.board, board);
    for (const [name, windows] of this.#windows) {
      const [device, metric] = name.split("/") as [string, string];
      const last = windows.at(-1);
      if (last && board.devices.includes(device)) this.#show({ board, key: { device, metric }, windows }, [last]);
    }
  }

  /** Windows of a series closed. */
  closed = ({ key, windows, again }: Closed) => {
    const known = this.#windows.get(nameOf(key)) ?? [];
    const basic = windows.filter(({ size }) => size === SIZES[0]);
    const all = [...known, ...basic].slice(-REMEMBERED);
    this.#windows.set(nameOf(key), all);
    for (const board of this.#boards.values()) {
      if (!board.devices.includes(key.device)) continue;
      const shown = { board, key, windows: all };
      // Before the first link there is nobody to tell: all is shown when it stands.
      this.#show(shown, windows, again ? this.#keep : this.#set);
      if (again || basic.length === 0) continue;
      this.#deps.anomalies.judge(shown, basic, this.#set);
      this.#forecast(shown, basic.length);
    }
  };

  /** Everything that is shown, a board at a time, for a gateway that may know nothing of it. */
  async showAll() {
    this.#shown += 1;
    const round = this.#shown;
    for (const [board, values] of this.#values) {
      const channel = `board:${board}`;
      const emits = [...values].map(([latestKey, data]) => this.#deps.channels.emit({ channel, latestKey, data }));
      await Promise.allSettled(emits);
      // There is a newer link.
      if (round !== this.#shown) return;
    }
  }

  #show({ board, key }: Shown, windows: Window[], set: Show = this.#set) {
    for (const size of SIZES) {
      const window = windows.findLast((one) => one.size === size);
      if (!window) continue;
      const { start, count, min, max, mean } = window;
      const value = { type: "window", ...key, seconds: size / 1000, start, count, min, max, mean } as const;
      set(board.board, `${nameOf(key)}/${size === SIZES[0] ? "1s" : "1m"}`, value);
    }
  }

  #forecast(shown: Shown, closed: number) {
    const name = `${shown.board.board}:${nameOf(shown.key)}`;
    const left = (this.#untilForecast.get(name) ?? 0) - closed;
    if (left > 0) return void this.#untilForecast.set(name, left);
    this.#untilForecast.set(name, this.#deps.config.forecastEvery);
    this.#deps.forecasts.request(shown, this.#set);
  }

  readonly #set: Show = (board, key, value) => {
    const before = this.#values.get(board)?.get(key);
    // That something is missing is said once.
    if (reasonOf(value) !== undefined && reasonOf(value) === reasonOf(before)) return;
    this.#keep(board, key, value);
    this.#tell(board, key, value);
  };

  readonly #keep: Show = (board, key, value) => {
    const values = this.#values.get(board) ?? new Map<string, BoardValue>();
    this.#values.set(board, values.set(key, value));
  };

  #tell(board: string, key: string, data: BoardValue | undefined) {
    const what = data ? { data } : { removed: true };
    this.#deps.channels.tell({ channel: `board:${board}`, latestKey: key, ...what });
  }

  #find(name: string): Board {
    const board = this.#boards.get(name);
    if (!board) throw new Problem("not_found", `There is no board ${name}.`);
    return board;
  }
}

/** Shows a value on a board. */
export type Show = (board: string, key: string, value: BoardValue) => void;

/** Why a value is missing. */
function reasonOf(value: BoardValue | undefined): string | undefined {
  return value && "reason" in value ? value.reason : undefined;
}
