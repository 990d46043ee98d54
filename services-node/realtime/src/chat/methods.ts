// The calls of chat: chat.create, chat.join, chat.leave, chat.invite, chat.remove, chat.rooms, chat.members, chat.history,
// chat.read, chat.cancel.
import { defineMethods, type HookContext, type Methods, method } from "../channels/registry.ts";
import { requireUser } from "../identity.ts";
import { Problem } from "../problems.ts";
import type { ChatDependencies } from "./feature.ts";
import type { Room } from "./rooms.ts";
import { HistoryPage, NewRoom, Nothing, OneAnswer, OneRoom, ReadTo, RoomAndSubject } from "./schemas.ts";

type ReadMarker = (room: Room, reader: string, id: number) => void;

/** The namespaces whose channels end with a room's name. */
const OF_A_ROOM = ["chat", "typing", "reads", "answers"];

export function chatMethods(deps: ChatDependencies, marked: ReadMarker): Methods {
  const { rooms, messages, answers } = deps;
  const subject = ({ actor }: HookContext) => requireUser(actor).subject;
  const enter = (context: HookContext, room: string) => rooms.enter(room, subject(context));
  const owned = (context: HookContext, name: string) => {
    const room = enter(context, name);
    rooms.requireOwner(room, context.actor.subject);
    return room;
  };
  return defineMethods("chat", {
    rooms: method(Nothing, async (context) => ({ rooms: rooms.list(subject(context)) })),
    create: method(NewRoom, async (context, { room, private: isPrivate = false }) => {
      const { name, owner } = rooms.create(room, subject(context), isPrivate);
      return { room: name, owner, private: isPrivate };
    }),
    join: method(OneRoom, async (context, { room }) => {
      rooms.join(enter(context, room), context.actor.subject);
      return { room };
    }),
    leave: method(OneRoom, async (context, { room }) => {
      end(deps, enter(context, room), context.actor.subject, "You left the room.");
      return { room };
    }),
    invite: method(RoomAndSubject, async (context, { room, subject: invited }) => {
      rooms.join(owned(context, room), invited);
      return { room, subject: invited };
    }),
    remove: method(RoomAndSubject, async (context, { room, subject: removed }) => {
      end(deps, owned(context, room), removed, "You were removed from the room.");
      return { room, subject: removed };
    }),
    members: method(OneRoom, async (context, { room }) => ({ members: rooms.members(enter(context, room)) })),
    history: method(HistoryPage, async (context, { room, ...page }) => messages.page(enter(context, room), page)),
    read: method(ReadTo, async (context, { room: name, id }) => {
      const room = enter(context, name);
      if (id > messages.newest(room)) throw new Problem("invalid_argument", `There is no message ${id} yet.`);
      const readTo = rooms.read(room, context.actor.subject, id);
      marked(room, context.actor.subject, readTo);
      return { room: name, read_to: readTo };
    }),
    cancel: method(OneAnswer, async (context, { answer }) => {
      answers.cancel(answer, subject(context));
      return { answer };
    }),
  });
}

/** Ends a membership; of a private room also the subscriptions. */
function end({ rooms, channels }: ChatDependencies, room: Room, subject: string, message: string) {
  rooms.leave(room, subject);
  if (!room.private) return;
  for (const namespace of OF_A_ROOM) channels.revoke({ subject, channel: `${namespace}:${room.name}`, message });
}
