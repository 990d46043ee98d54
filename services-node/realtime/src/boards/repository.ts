// Devices, points and boards in SQLite. A point's series and time are its key: the same one again changes nothing. Of
// each series the newest points are kept.
import type { Database } from "../db/database.ts";
import { Problem } from "../problems.ts";
import type { Board } from "./schemas.ts";
import type { Point } from "./windows.ts";

type BoardRow = Omit<Board, "devices" | "board"> & { name: string; devices: string };
export type SeriesKey = { device: string; metric: string };

/** Boards in all. */
const MOST_BOARDS = 500;
const BOARDS_OF_ONE = 20;

export class BoardRepository {
  readonly #database: Database;
  readonly #sql;

  constructor(database: Database) {
    this.#database = database;
    this.#sql = prepare(database);
  }

  /** Takes the device for its first sender; a problem for everybody else. */
  claim(device: string, subject: string) {
    this.#sql.claim.run(device, subject);
    if (this.#sql.ownerOf.get(device)!.owner === subject) return;
    throw new Problem("permission_denied", `The device ${device} is another's.`, { reason: "foreign_device" });
  }

  /** Whether the point is new. */
  insert({ device, metric }: SeriesKey, { time, value }: Point): boolean {
    return this.#sql.insert.run(device, metric, time, value).changes === 1;
  }

  /** Forgets all but the newest points of a series. */
  prune({ device, metric }: SeriesKey, keep: number) {
    this.#sql.prune.run(device, metric, device, metric, keep - 1);
  }

  series(limit: number): SeriesKey[] {
    return this.#sql.series.all(limit);
  }

  /** The newest points of a series, oldest first. */
  newest({ device, metric }: SeriesKey, limit: number): Point[] {
    return this.#sql.newest.all(device, metric, limit).reverse();
  }

  list(): Board[] {
    return this.#sql.list.all(MOST_BOARDS).map(toBoard);
  }

  /** Makes or changes a board. */
  put({ board, owner, devices, season }: Board) {
    this.#database.transaction(() => {
      const there = this.#sql.find.get(board);
      if (there && there.owner !== owner) throw new Problem("permission_denied", "Only its owner may change a board.");
      if (!there && this.#sql.owned.get(owner)!.n >= BOARDS_OF_ONE) {
        throw new Problem("limit_exceeded", `One person may have ${BOARDS_OF_ONE} boards.`);
      }
      if (!there && this.#sql.all.get()!.n >= MOST_BOARDS) {
        throw new Problem("limit_exceeded", `There may be ${MOST_BOARDS} boards.`);
      }
      this.#sql.put.run(board, owner, JSON.stringify(devices), season);
    });
  }
}

function toBoard({ name, devices, ...row }: BoardRow): Board {
  return { board: name, ...row, devices: JSON.parse(devices) as string[] };
}

function prepare(database: Database) {
  const columns = "name, owner, devices, season";
  return {
    claim: database.statement("device_claim", "INSERT OR IGNORE INTO telemetry_devices (device, owner) VALUES (?, ?)"),
    ownerOf: database.statement<{ owner: string }>(
      "device_owner",
      "SELECT owner FROM telemetry_devices WHERE device = ?",
    ),
    insert: database.statement(
      "point_insert",
      "INSERT OR IGNORE INTO telemetry_points (device, metric, time, value) VALUES (?, ?, ?, ?)",
    ),
    prune: database.statement(
      "point_prune",
      `DELETE FROM telemetry_points WHERE device = ? AND metric = ? AND time <
       (SELECT time FROM telemetry_points WHERE device = ? AND metric = ? ORDER BY time DESC LIMIT 1 OFFSET ?)`,
    ),
    series: database.statement<SeriesKey>(
      "point_series",
      "SELECT device, metric FROM telemetry_points GROUP BY device, metric LIMIT ?",
    ),
    newest: database.statement<Point>(
      "point_newest",
      "SELECT time, value FROM telemetry_points WHERE device = ? AND metric = ? ORDER BY time DESC LIMIT ?",
    ),
    find: database.statement<BoardRow>("board_find", `SELECT ${columns} FROM boards WHERE name = ?`),
    list: database.statement<BoardRow>("board_list", `SELECT ${columns} FROM boards ORDER BY name LIMIT ?`),
    all: database.statement<{ n: number }>("board_count", "SELECT COUNT(*) AS n FROM boards"),
    owned: database.statement<{ n: number }>("board_owned", "SELECT COUNT(*) AS n FROM boards WHERE owner = ?"),
    put: database.statement(
      "board_put",
      `INSERT INTO boards (${columns}) VALUES (?, ?, ?, ?)
       ON CONFLICT (name) DO UPDATE SET devices = excluded.devices, season = excluded.season`,
    ),
  };
}
