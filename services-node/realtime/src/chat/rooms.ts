// Rooms and who is in them. Everybody may read a public room and speak in it; a private one is its members'.
import type { Database } from "../db/database.ts";
import { Problem } from "../problems.ts";

export type Room = { id: number; name: string; owner: string; private: number };

const ROOMS_OF_ONE = 100;
const MEMBERS_OF_ONE = 1_000;
const LISTED = 200;

export class Rooms {
  readonly #database: Database;
  readonly #sql;

  constructor(database: Database) {
    this.#database = database;
    this.#sql = prepare(database);
  }

  /** The room, where the subject may be in it. */
  enter(name: string, subject: string): Room {
    const room = this.#sql.find.get(name);
    if (!room) throw new Problem("not_found", `There is no room ${name}.`);
    if (room.private && !this.isMember(room, subject)) {
      throw new Problem("permission_denied", `The room ${name} is private.`, { reason: "private_room" });
    }
    return room;
  }

  isMember(room: Room, subject: string): boolean {
    return this.#sql.member.get(subject, room.id) !== undefined;
  }

  /** Makes a room; its owner is its first member. The same again changes nothing. */
  create(name: string, owner: string, isPrivate: boolean): Room {
    return this.#database.transaction(() => {
      const there = this.#sql.find.get(name);
      if (there?.owner === owner && Boolean(there.private) === isPrivate) return there;
      if (there) throw new Problem("conflict", `There is a room ${name} already.`);
      if (this.#sql.owned.get(owner)!.n >= ROOMS_OF_ONE) {
        throw new Problem("limit_exceeded", `One person may have ${ROOMS_OF_ONE} rooms.`);
      }
      this.#sql.create.run(name, owner, isPrivate ? 1 : 0, Date.now());
      const room = this.#sql.find.get(name)!;
      this.#sql.join.run(owner, room.id);
      return room;
    });
  }

  join(room: Room, subject: string) {
    this.#database.transaction(() => {
      if (this.#sql.size.get(room.id)!.n >= MEMBERS_OF_ONE && !this.isMember(room, subject)) {
        throw new Problem("limit_exceeded", `A room may have ${MEMBERS_OF_ONE} members.`);
      }
      this.#sql.join.run(subject, room.id);
    });
  }

  leave(room: Room, subject: string) {
    if (room.owner === subject) throw new Problem("conflict", "The owner cannot leave the room.");
    this.#sql.leave.run(subject, room.id);
  }

  /** What only the owner may do. */
  requireOwner(room: Room, subject: string) {
    if (room.owner !== subject) throw new Problem("permission_denied", "Only the room's owner may do this.");
  }

  /** How far a member has read; it only goes forward. Gives where it is then. */
  read(room: Room, subject: string, id: number): number {
    this.join(room, subject);
    return this.#sql.read.get(id, subject, room.id)!.read_to;
  }

  readTo(room: Room, subject: string): number {
    return this.#sql.member.get(subject, room.id)?.read_to ?? 0;
  }

  /** A room's members, by name, and how far each has read. */
  members(room: Room) {
    return this.#sql.members.all(room.id, MEMBERS_OF_ONE);
  }

  /** The public rooms, and those that the subject is in. */
  list(subject: string) {
    return this.#sql.list.all(subject, LISTED).map(({ name, owner, private: isPrivate, member }) => ({
      room: name,
      owner,
      private: Boolean(isPrivate),
      member: Boolean(member),
    }));
  }
}

function prepare(database: Database) {
  return {
    find: database.statement<Room>("room_find", "SELECT id, name, owner, private FROM chat_rooms WHERE name = ?"),
    owned: database.statement<{ n: number }>("room_owned", "SELECT COUNT(*) AS n FROM chat_rooms WHERE owner = ?"),
    create: database.statement(
      "room_create",
      "INSERT INTO chat_rooms (name, owner, private, created_at) VALUES (?, ?, ?, ?)",
    ),
    member: database.statement<{ read_to: number }>(
      "room_member",
      "SELECT read_to FROM chat_members WHERE subject = ? AND room_id = ?",
    ),
    members: database.statement<{ subject: string; read_to: number }>(
      "room_members",
      "SELECT subject, read_to FROM chat_members WHERE room_id = ? ORDER BY subject LIMIT ?",
    ),
    size: database.statement<{ n: number }>("room_size", "SELECT COUNT(*) AS n FROM chat_members WHERE room_id = ?"),
    join: database.statement("room_join", "INSERT OR IGNORE INTO chat_members (subject, room_id) VALUES (?, ?)"),
    leave: database.statement("room_leave", "DELETE FROM chat_members WHERE subject = ? AND room_id = ?"),
    read: database.statement<{ read_to: number }>(
      "room_read",
      "UPDATE chat_members SET read_to = MAX(read_to, ?) WHERE subject = ? AND room_id = ? RETURNING read_to",
    ),
    list: database.statement<Room & { member: number }>(
      "room_list",
      `SELECT r.id, r.name, r.owner, r.private, m.subject IS NOT NULL AS member FROM chat_rooms r
       LEFT JOIN chat_members m ON m.room_id = r.id AND m.subject = ?
       WHERE r.private = 0 OR m.subject IS NOT NULL ORDER BY member DESC, r.id LIMIT ?`,
    ),
  };
}
