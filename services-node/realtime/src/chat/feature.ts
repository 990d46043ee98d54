// Chat as a feature of channels: rooms (chat:), who is typing (typing:), how far people have read (reads:) and answers as
// they are written (answers:). A message is on disk before it is accepted, and on its way to subscribers in the order of
// the disk.
import type { Channels } from "../channels/channels.ts";
import { type Channel, channelPart, defineNamespace, type Feature, type HookContext } from "../channels/registry.ts";
import type { GroupCommit } from "../db/group.ts";
import { requireUser } from "../identity.ts";
import { type Answers, answerId } from "./answers.ts";
import { isQuestion, type Messages } from "./messages.ts";
import { chatMethods } from "./methods.ts";
import type { Reviews } from "./reviews.ts";
import type { Room, Rooms } from "./rooms.ts";
import { type Publication, Saying, Typing } from "./schemas.ts";

export type ChatDependencies = {
  rooms: Rooms;
  messages: Messages;
  reviews: Reviews;
  answers: Answers;
  group: GroupCommit;
  channels: Pick<Channels, "tell" | "revoke">;
};

/** What the gateway keeps for those who come back; older messages come from chat.history. */
const HISTORY = 300;
const HISTORY_SECONDS = 300;

export function chatFeature(deps: ChatDependencies): Feature {
  const { rooms, messages, channels } = deps;
  const enter = (context: HookContext, channel: Channel): Room =>
    rooms.enter(channel.path, requireUser(context.actor).subject);
  const only = async (context: HookContext, channel: Channel) => void enter(context, channel);
  const typing = (channel: Channel, user: string, typing: boolean) =>
    channels.tell({ channel: `typing:${channel.path}`, data: { user, typing }, sender: user });

  const chat = defineNamespace({
    name: "chat",
    kind: "stream",
    history: HISTORY,
    historySeconds: HISTORY_SECONDS,
    presence: true,
    rate: 10,
    message: Saying,
    subscribe: async (context, channel) => {
      const room = enter(context, channel);
      const { subject } = context.actor;
      const member = rooms.isMember(room, subject);
      const about = { room: room.name, owner: room.owner, private: Boolean(room.private), member };
      return { data: { ...about, newest: messages.newest(room), read_to: rooms.readTo(room, subject) } };
    },
    publish: (context, channel, saying, { key }) => publish(deps, enter(context, channel), context, saying, key),
    left: async ({ actor }, channel) => typing(channel, actor.subject, false),
  });
  const typingNow = defineNamespace({
    name: "typing",
    kind: "live",
    rate: 5,
    message: Typing,
    subscribe: only,
    publish: async (context, channel, { typing }) => {
      enter(context, channel);
      return { publish: { user: context.actor.subject, typing } };
    },
  });
  const reads = defineNamespace({
    name: "reads",
    kind: "latest",
    history: 256,
    historySeconds: 86_400,
    subscribe: only,
    publish: "deny",
  });
  const answers = defineNamespace({ name: "answers", kind: "latest", history: 32, subscribe: only, publish: "deny" });
  return { namespaces: [chat, typingNow, reads, answers], methods: [chatMethods(deps, readMarker(channels))] };
}

async function publish(deps: ChatDependencies, room: Room, context: HookContext, saying: Saying, key: string) {
  const { messages, reviews, answers, group } = deps;
  const { subject } = context.actor;
  const repeated = repeat(deps, room, subject, key);
  if (repeated) return repeated;
  messages.check(room, subject, saying);
  const review = saying.type === "delete" ? "passed" : await reviews.judge(saying.text, context, context.signal);
  // Nothing is begun for somebody who does not wait any more; what is begun is finished.
  context.signal.throwIfAborted();
  const said = await group.run(
    () => repeat(deps, room, subject, key) ?? messages.say(room, subject, key, saying, review),
  );
  if ("data" in said) return said;
  if (review === "pending") reviews.wake();
  if (saying.type === "delete") answers.drop(saying.id);
  const asked = isQuestion(saying);
  if (asked) answers.wake();
  return accepted(said, said.id, asked ? { answer: answerId(said.id) } : {});
}

/**
 * What was said with this key before. The gateway asks only where its own history does not have the key: while that is
 * younger than the history, it never went out (this process died before it answered), so it goes out now.
 */
function repeat({ messages }: ChatDependencies, room: Room, subject: string, key: string) {
  const before = messages.repeated(room, subject, key);
  if (!before) return undefined;
  const lost = Date.now() - before.at < HISTORY_SECONDS * 1000 && before.state === "visible";
  const publish = JSON.parse(before.published) as Publication;
  return { publish, duplicate: true, silent: !lost, data: { id: before.message_id, repeated: true } };
}

function accepted(publish: Publication, id: number, more: { answer?: string }) {
  return { publish, data: { id, ...more } };
}

function readMarker(channels: ChatDependencies["channels"]) {
  return (room: Room, reader: string, id: number) =>
    channels.tell({ channel: `reads:${room.name}`, latestKey: channelPart(reader), data: { reader, id } });
}
