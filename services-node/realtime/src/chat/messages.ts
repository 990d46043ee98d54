// Messages in SQLite. What is said with a key is said once per room and author, however often it comes and however often
// this process starts; the key keeps what was published then.
import type { Database } from "../db/database.ts";
import { Problem } from "../problems.ts";
import type { Room } from "./rooms.ts";
import type { AnswerDetails, Message, Publication, Review, Saying } from "./schemas.ts";

type Row = Omit<Message, "answer"> & { answer: string | null };
type Repeated = { message_id: number; at: number; published: string; state: Message["state"] };

/** A message that no model has judged yet, with its room's name. */
export type Pending = { id: number; text: string; room: string };
/** A message that the assistant has yet to answer. */
export type Question = { id: number; text: string; author: string; room: string; attempts: number };

/** Keys are kept for as long as a client may go on trying. */
const KEY_DAYS = 7;
const QUESTIONS_OF_ONE = 3;

/** What the assistant is called by. */
const CALL = /^@assistant\b[\s:,]*/i;
/** Who writes answers; no person can be called that. */
export const ASSISTANT = "service:ai";

export class Messages {
  readonly #sql;

  constructor(database: Database) {
    this.#sql = prepare(database);
  }

  /** What was said with the key before. */
  repeated(room: Room, author: string, key: string): Repeated | undefined {
    return this.#sql.repeated.get(room.id, author, key);
  }

  /** Throws the problem where this may not be said: before anything is spent on it. */
  check(room: Room, author: string, saying: Saying) {
    if (saying.type !== "message") return this.#requireChange(room, author, saying);
    if (saying.reply_to !== undefined) this.#find(room, saying.reply_to);
    if (isQuestion(saying) && this.#sql.asked.get(author)!.n >= QUESTIONS_OF_ONE) {
      throw new Problem("limit_exceeded", `${QUESTIONS_OF_ONE} of your questions wait for an answer; cancel one.`);
    }
  }

  /** Says it, in the transaction that the caller holds. Gives what subscribers get. */
  say(room: Room, author: string, key: string, saying: Saying, review: Review): Publication {
    this.check(room, author, saying);
    const published = this.#carryOut(room, author, saying, review);
    this.#sql.keep.run(room.id, author, key, published.id, Date.now(), JSON.stringify(published));
    return published;
  }

  /** The assistant's answer as a message, in the transaction that the caller holds; the question is answered then. */
  answer(room: Room, text: string, answer: AnswerDetails, review: Review): Publication {
    this.#sql.closeQuestion.run(answer.to);
    return this.#insert(room, ASSISTANT, text, null, answer, review);
  }

  /** A page of a room's messages, oldest first: before an id, after one, or the newest. */
  page(room: Room, { before, after, limit }: { before?: number; after?: number; limit: number }) {
    const rows =
      after === undefined
        ? this.#sql.before.all(room.id, before ?? Number.MAX_SAFE_INTEGER, limit + 1)
        : this.#sql.after.all(room.id, after, before ?? Number.MAX_SAFE_INTEGER, limit + 1);
    const page = rows.slice(0, limit).map(toMessage);
    return { messages: after === undefined ? page.reverse() : page, more: rows.length > limit };
  }

  newest(room: Room): number {
    return this.#sql.newest.get(room.id)?.id ?? 0;
  }

  pending(limit: number): Pending[] {
    return this.#sql.pending.all(limit);
  }

  /** Sets a late judgement. False where the message was changed meanwhile, and is to be judged anew. */
  judge({ id, text }: Pending, review: Review): boolean {
    return this.#sql.judge.run(review, id, text).changes === 1;
  }

  withdraw({ id, text }: Pending): boolean {
    return this.#sql.withdraw.run(id, text).changes === 1;
  }

  questions(limit: number): Question[] {
    return this.#sql.questions.all(limit).map((one) => ({ ...one, text: one.text.replace(CALL, "") }));
  }

  question(id: number): Question | undefined {
    return this.#sql.question.get(id);
  }

  tried(id: number) {
    this.#sql.tried.run(id);
  }

  closeQuestion(id: number) {
    this.#sql.closeQuestion.run(id);
  }

  pruneKeys() {
    this.#sql.pruneKeys.run(Date.now() - KEY_DAYS * 86_400_000);
  }

  #carryOut(room: Room, author: string, saying: Saying, review: Review): Publication {
    if (saying.type === "message") {
      const published = this.#insert(room, author, saying.text, saying.reply_to ?? null, null, review);
      if (isQuestion(saying)) this.#sql.ask.run(published.id);
      return published;
    }
    const { id } = saying;
    if (saying.type === "delete") {
      this.#sql.delete.run(id);
      this.#sql.closeQuestion.run(id);
      return { type: "deleted", id };
    }
    const at = Date.now();
    this.#sql.edit.run(saying.text, at, review, id);
    return { type: "edited", id, text: saying.text, edited_at: at, review };
  }

  /** The author changes a message; the room's owner may delete it, too. */
  #requireChange(room: Room, author: string, { type, id }: { type: string; id: number }) {
    const message = this.#find(room, id);
    const owner = type === "delete" && room.owner === author;
    if (message.author !== author && !owner) {
      throw new Problem("permission_denied", "Only the author may change a message.");
    }
    if (message.state !== "visible") throw new Problem("conflict", `Message ${id} is ${message.state}.`);
  }

  #insert(
    room: Room,
    author: string,
    text: string,
    replyTo: number | null,
    answer: AnswerDetails | null,
    review: Review,
  ): Publication {
    const at = Date.now();
    const { id } = this.#sql.insert.run(room.id, author, text, at, review, replyTo, answer && JSON.stringify(answer));
    return { type: "message", id, author, text, at, review, reply_to: replyTo, answer };
  }

  #find(room: Room, id: number): Message {
    const row = this.#sql.find.get(id, room.id);
    if (!row) throw new Problem("not_found", `There is no message ${id} in this room.`);
    return toMessage(row);
  }
}

/** Whether the assistant is asked something. */
export function isQuestion(saying: Saying): boolean {
  return (
    saying.type === "message" &&
    saying.text.replace(CALL, "") !== saying.text &&
    /\S/.test(saying.text.replace(CALL, ""))
  );
}

function toMessage({ answer, ...row }: Row): Message {
  const text = row.state === "visible" ? row.text : "";
  return { ...row, text, answer: answer === null ? null : (JSON.parse(answer) as AnswerDetails) };
}

const COLUMNS = "id, author, text, at, edited_at, state, review, reply_to, answer";
const ASKED = `SELECT m.id, m.text, m.author, r.name AS room, q.attempts FROM chat_questions q
  JOIN chat_messages m ON m.id = q.message_id JOIN chat_rooms r ON r.id = m.room_id`;

function prepare(database: Database) {
  return {
    ...prepareReads(database),
    insert: database.statement(
      "message_insert",
      "INSERT INTO chat_messages (room_id, author, text, at, review, reply_to, answer) VALUES (?, ?, ?, ?, ?, ?, ?)",
    ),
    edit: database.statement(
      "message_edit",
      "UPDATE chat_messages SET text = ?, edited_at = ?, review = ? WHERE id = ?",
    ),
    delete: database.statement("message_delete", "UPDATE chat_messages SET state = 'deleted', text = '' WHERE id = ?"),
    withdraw: database.statement(
      "message_withdraw",
      "UPDATE chat_messages SET state = 'withdrawn', review = 'flagged' WHERE id = ? AND text = ? AND state = 'visible'",
    ),
    judge: database.statement(
      "message_judge",
      "UPDATE chat_messages SET review = ? WHERE id = ? AND text = ? AND state = 'visible' AND review = 'pending'",
    ),
    keep: database.statement(
      "key_keep",
      "INSERT INTO chat_keys (room_id, author, key, message_id, at, published) VALUES (?, ?, ?, ?, ?, ?)",
    ),
    pruneKeys: database.statement("key_prune", "DELETE FROM chat_keys WHERE at < ?"),
    ask: database.statement("question_ask", "INSERT INTO chat_questions (message_id) VALUES (?)"),
    tried: database.statement(
      "question_tried",
      "UPDATE chat_questions SET attempts = attempts + 1 WHERE message_id = ?",
    ),
    closeQuestion: database.statement("question_close", "DELETE FROM chat_questions WHERE message_id = ?"),
  };
}

function prepareReads(database: Database) {
  return {
    find: database.statement<Row>("message_find", `SELECT ${COLUMNS} FROM chat_messages WHERE id = ? AND room_id = ?`),
    repeated: database.statement<Repeated>(
      "key_find",
      `SELECT k.message_id, k.at, k.published, m.state FROM chat_keys k JOIN chat_messages m ON m.id = k.message_id
       WHERE k.room_id = ? AND k.author = ? AND k.key = ?`,
    ),
    before: database.statement<Row>(
      "message_before",
      `SELECT ${COLUMNS} FROM chat_messages WHERE room_id = ? AND id < ? ORDER BY id DESC LIMIT ?`,
    ),
    after: database.statement<Row>(
      "message_after",
      `SELECT ${COLUMNS} FROM chat_messages WHERE room_id = ? AND id > ? AND id < ? ORDER BY id LIMIT ?`,
    ),
    newest: database.statement<{ id: number | null }>(
      "message_newest",
      "SELECT MAX(id) AS id FROM chat_messages WHERE room_id = ?",
    ),
    pending: database.statement<Pending>(
      "message_pending",
      `SELECT m.id, m.text, r.name AS room FROM chat_messages m JOIN chat_rooms r ON r.id = m.room_id
       WHERE m.review = 'pending' AND m.state = 'visible' ORDER BY m.id LIMIT ?`,
    ),
    asked: database.statement<{ n: number }>(
      "question_count",
      "SELECT COUNT(*) AS n FROM chat_questions q JOIN chat_messages m ON m.id = q.message_id WHERE m.author = ?",
    ),
    questions: database.statement<Question>("question_list", `${ASKED} ORDER BY q.message_id LIMIT ?`),
    question: database.statement<Question>("question_find", `${ASKED} WHERE q.message_id = ?`),
  };
}
