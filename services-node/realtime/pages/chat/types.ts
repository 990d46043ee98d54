// What chat's channels carry and its methods answer, as realtime/src/chat decides: the page and the service share types.

export type Review = "passed" | "flagged" | "pending";
export type Citation = { number: number; document_id: string; title: string; uri: string; passage: string };

export type Message = {
  id: number;
  author: string;
  text: string;
  at: number;
  edited_at: number | null;
  state: "visible" | "deleted" | "withdrawn";
  review: Review;
  reply_to: number | null;
  answer: { to: number; model: string; notice: string; citations: Citation[] } | null;
};

export type Publication =
  | ({ type: "message" } & Pick<Message, "id" | "author" | "text" | "at" | "review" | "reply_to" | "answer">)
  | { type: "edited"; id: number; text: string; edited_at: number; review: Review }
  | { type: "deleted" | "withdrawn"; id: number }
  | { type: "reviewed"; id: number; review: Review };

export type AnswerState = {
  id: string;
  question: number;
  asked_by: string;
  status: "waiting" | "writing" | "done" | "cancelled" | "failed";
  text: string;
  citations: Citation[];
  model: string;
  notice: string;
  reason?: string;
  message?: number;
};

type Saying =
  | { type: "message"; text: string; reply_to?: number }
  | { type: "edit"; id: number; text: string }
  | { type: "delete"; id: number };
type Room = { room: string; owner: string; private: boolean; member: boolean };

export type ChatTypes = {
  channels: {
    chat: { publication: Publication; publish: Saying };
    typing: { publication: { user: string; typing: boolean }; publish: { typing: boolean } };
    reads: { publication: { reader: string; id: number } };
    answers: { publication: AnswerState };
  };
  methods: {
    "chat.rooms": { request: object; response: { rooms: Room[] } };
    "chat.create": { request: { room: string; private?: boolean }; response: { room: string } };
    "chat.history": {
      request: { room: string; before?: number; after?: number; limit?: number };
      response: { messages: Message[]; more: boolean };
    };
    "chat.read": { request: { room: string; id: number }; response: { read_to: number } };
    "chat.invite": { request: { room: string; subject: string }; response: object };
    "chat.cancel": { request: { answer: string }; response: object };
  };
};
