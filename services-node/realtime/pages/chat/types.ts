// What chat's channels carry and its methods take and answer: the service's own types, of which nothing is left when the
// page is served.
import type { AnswerState, Message, Publication, Saying } from "../../src/chat/schemas.ts";

export type { AnswerState, Message, Publication };

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
