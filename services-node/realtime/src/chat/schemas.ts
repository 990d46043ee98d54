// What is said in a room, as clients publish it, as subscribers get it, and as history gives it.
import { type Static, Type } from "typebox";

export const ROOM = "^[a-z0-9][a-z0-9-]{0,47}$";

const Id = Type.Integer({ minimum: 1, description: "A message's id." });
const Text = Type.String({ minLength: 1, maxLength: 4_000, format: "text" });
const Said = Type.Object(
  { type: Type.Literal("message"), text: Text, reply_to: Type.Optional(Id) },
  { additionalProperties: false },
);
const Edit = Type.Object({ type: Type.Literal("edit"), id: Id, text: Text }, { additionalProperties: false });
const Delete = Type.Object({ type: Type.Literal("delete"), id: Id }, { additionalProperties: false });

/** What a client publishes to chat:<room>. */
export const Saying = Type.Unsafe<Static<typeof Said> | Static<typeof Edit> | Static<typeof Delete>>({
  type: "object",
  required: ["type"],
  properties: { type: { type: "string" } },
  discriminator: { propertyName: "type" },
  oneOf: [Said, Edit, Delete],
});
export type Saying = Static<typeof Saying>;

/** What a client publishes to typing:<room>. */
export const Typing = Type.Object({ typing: Type.Boolean() }, { additionalProperties: false });

/** passed and flagged: as a model judged. pending: it was not judged in time, and will be. */
export type Review = "passed" | "flagged" | "pending";

export type Citation = { number: number; document_id: string; title: string; uri: string; passage: string };

/** Of a message that the assistant wrote: the question, what wrote it, and what it rests on. */
export type AnswerDetails = { to: number; model: string; notice: string; citations: Citation[] };

export type Message = {
  id: number;
  author: string;
  text: string;
  /** Milliseconds since 1970. */
  at: number;
  edited_at: number | null;
  /** A deleted or withdrawn message has no text any more. */
  state: "visible" | "deleted" | "withdrawn";
  review: Review;
  reply_to: number | null;
  answer: AnswerDetails | null;
};

/** What subscribers of chat:<room> get. A message may come twice; its id says so. */
export type Publication =
  | ({ type: "message" } & Pick<Message, "id" | "author" | "text" | "at" | "review" | "reply_to" | "answer">)
  | { type: "edited"; id: number; text: string; edited_at: number; review: Review }
  | { type: "deleted" | "withdrawn"; id: number }
  | { type: "reviewed"; id: number; review: Review };

/** What subscribers of answers:<room> get of each answer: the text so far. */
export type AnswerState = {
  id: string;
  /** The question's message. */
  question: number;
  asked_by: string;
  status: "waiting" | "writing" | "done" | "cancelled" | "failed";
  text: string;
  citations: Citation[];
  model: string;
  notice: string;
  /** failed, waiting: why. */
  reason?: string;
  /** done: the message that it became. */
  message?: number;
};

const Room = Type.String({ pattern: ROOM, description: "1 to 48 small letters, digits and -." });
const Subject = Type.String({ minLength: 1, maxLength: 128, pattern: "^[^\\s]+$", format: "text" });
const exact = { additionalProperties: false };

export const Nothing = Type.Object({}, exact);
export const OneRoom = Type.Object({ room: Room }, exact);
export const NewRoom = Type.Object({ room: Room, private: Type.Optional(Type.Boolean()) }, exact);
export const RoomAndSubject = Type.Object({ room: Room, subject: Subject }, exact);
export const ReadTo = Type.Object({ room: Room, id: Id }, exact);
export const OneAnswer = Type.Object({ answer: Type.String({ pattern: "^a[0-9]{1,15}$" }) }, exact);
export const HistoryPage = Type.Object(
  {
    room: Room,
    before: Type.Optional(Id),
    after: Type.Optional(Type.Integer({ minimum: 0 })),
    limit: Type.Integer({ minimum: 1, maximum: 200, default: 50 }),
  },
  exact,
);
