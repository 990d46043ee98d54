// A room: its messages, who is there, who is typing, and the line to write in. All of it comes by channels; what the
// gateway does not keep any more comes by a call.
import type { Channel, ChannelsClient } from "@hybrid/channels";
import { attempt, element, field } from "../shared/dom.ts";
import type { Person } from "../shared/sign_in.ts";
import { MessageList } from "./message_list.ts";
import type { ChatTypes, Message, Publication } from "./types.ts";

type Types = ChatTypes["channels"];

const PAGE = 50;
/** Typing is said again while it goes on, and believed for a little longer. */
const TYPING_MS = 2_000;

export class RoomView {
  readonly name: string;
  readonly elements: HTMLElement[];
  readonly #client: ChannelsClient<ChatTypes>;
  readonly #chat: Channel<Types["chat"]>;
  readonly #typing: Channel<Types["typing"]>;
  readonly #answers: Channel<Types["answers"]>;
  readonly #reads: Channel<Types["reads"]>;
  readonly #list: MessageList;
  /** How far each person has read. */
  readonly #readTo = new Map<string, number>();
  readonly #there = new Map<string, string>();
  readonly #typists = new Map<string, ReturnType<typeof setTimeout>>();
  readonly #presence = element("p", { class: "soft small", role: "status" });
  readonly #typingLine = element("p", { class: "soft small typing", role: "status" });
  readonly #earlier: HTMLButtonElement;
  readonly #ends: (() => void)[] = [];
  readonly #subject: string;
  #saidTypingAt = 0;
  #isLoaded = false;

  constructor(client: ChannelsClient<ChatTypes>, { subject }: Person, name: string) {
    this.name = name;
    this.#client = client;
    this.#subject = subject;
    this.#chat = client.channel(`chat:${name}`);
    this.#typing = client.channel(`typing:${name}`);
    this.#answers = client.channel(`answers:${name}`);
    this.#reads = client.channel(`reads:${name}`);
    this.#list = new MessageList(subject, {
      edit: (id, text) => this.#say({ type: "edit", id, text }),
      remove: (id) => this.#say({ type: "delete", id }),
      cancel: (answer) => void attempt(client.call("chat.cancel", { answer }, { idempotent: true })),
    });
    this.#earlier = element(
      "button",
      { class: "link", hidden: true, onclick: () => void this.#loadEarlier() },
      "Earlier messages",
    );
    const head = element("div", {}, element("h1", {}, name), this.#presence);
    this.elements = [head, this.#earlier, this.#list.element, this.#typingLine, this.#composer()];
  }

  open() {
    this.#ends.push(
      this.#chat.on("subscribed", () => void this.#subscribed()),
      this.#chat.on("reset", () => void this.#load()),
      this.#chat.on("publication", ({ data }) => this.#received(data)),
      this.#chat.on("presence", ({ joined, left }) => {
        for (const { session, subject } of joined) this.#there.set(session, subject);
        for (const session of left) this.#there.delete(session);
        this.#showPresence();
      }),
      this.#chat.on("unsubscribed", (error) => error.retryAfterMs === 0 && this.#refused(error.message)),
      this.#typing.on("publication", ({ data: { user, typing } }) => this.#typed(user, typing)),
      this.#reads.on("publication", ({ data, removed }) => {
        if (!removed) this.#readTo.set(data.reader, data.id);
        this.#showPresence();
      }),
      this.#answers.on("publication", ({ data, latestKey }) => this.#list.answer(latestKey, data)),
    );
    for (const channel of this.#channels) channel.subscribe();
  }

  close() {
    for (const end of this.#ends) end();
    for (const channel of this.#channels) channel.unsubscribe();
    for (const timer of this.#typists.values()) clearTimeout(timer);
  }

  get #channels() {
    return [this.#chat, this.#typing, this.#reads, this.#answers];
  }

  async #subscribed() {
    if (!this.#isLoaded) await this.#load();
    const there = await attempt(this.#chat.presence());
    if (!there) return;
    this.#there.clear();
    for (const { session, subject } of there.members) this.#there.set(session, subject);
    this.#showPresence();
  }

  /** The newest messages. What comes meanwhile is merged by its id. */
  async #load() {
    this.#isLoaded = true;
    const page = await attempt(this.#history({}));
    if (!page) return;
    this.#list.put(page.messages);
    this.#earlier.hidden = !page.more;
    this.#markRead();
  }

  async #loadEarlier() {
    const before = this.#list.oldest;
    const page = before && (await attempt(this.#history({ before })));
    if (!page) return;
    this.#list.put(page.messages);
    this.#earlier.hidden = !page.more;
  }

  #history(place: { before?: number }): Promise<{ messages: Message[]; more: boolean }> {
    return this.#client.call("chat.history", { room: this.name, limit: PAGE, ...place }, { idempotent: true });
  }

  #received(publication: Publication) {
    this.#list.apply(publication);
    if (publication.type !== "message") return;
    this.#typed(publication.author, false);
    this.#showPresence();
    this.#markRead();
  }

  #markRead() {
    const id = this.#list.newest;
    if (!id || document.visibilityState !== "visible") return;
    this.#client.call("chat.read", { room: this.name, id }, { idempotent: true }).catch(() => {});
  }

  #say(saying: Types["chat"]["publish"]) {
    return attempt(this.#chat.publish(saying));
  }

  #composer(): HTMLFormElement {
    const hint = "Ask the assistant with @assistant. Enter sends, Shift and Enter makes a new line.";
    const text = element("textarea", { name: "text", rows: 2, maxlength: 4000, required: true, title: hint });
    const form = element(
      "form",
      { class: "composer" },
      element("label", {}, "Message", text),
      element("button", { class: "main" }, "Send"),
      element("p", { class: "soft small" }, hint),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#send(form);
    });
    text.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      form.requestSubmit();
    });
    text.addEventListener("input", () => this.#sayTyping());
    return form;
  }

  /** The text is shown as being sent until it is accepted; it comes back into the line where it is refused. */
  async #send(form: HTMLFormElement) {
    const text = field(form, "text");
    if (!text) return;
    form.reset();
    this.#saidTypingAt = 0;
    const sending = this.#list.sending(text);
    const accepted = await this.#say({ type: "message", text });
    sending.remove();
    const line = form.elements.namedItem("text") as HTMLTextAreaElement;
    if (!accepted && line.value === "") line.value = text;
  }

  #sayTyping() {
    if (this.#client.state !== "open" || Date.now() - this.#saidTypingAt < TYPING_MS) return;
    this.#saidTypingAt = Date.now();
    // Nobody misses what is lost of it.
    this.#typing.publish({ typing: true }, { timeoutMs: TYPING_MS }).catch(() => {});
  }

  #typed(user: string, isTyping: boolean) {
    if (user === this.#subject) return;
    clearTimeout(this.#typists.get(user));
    this.#typists.delete(user);
    if (isTyping)
      this.#typists.set(
        user,
        setTimeout(() => this.#typed(user, false), 2 * TYPING_MS),
      );
    const names = [...this.#typists.keys()];
    this.#typingLine.textContent =
      names.length === 0 ? "" : `${names.join(", ")} ${names.length > 1 ? "are" : "is"} typing…`;
  }

  #showPresence() {
    const names = [...new Set(this.#there.values())].sort();
    const newest = this.#list.newest;
    const readers = [...this.#readTo].filter(([name, id]) => newest && id >= newest && name !== this.#subject);
    const read = readers.length > 0 ? ` · all read by ${readers.map(([name]) => name).join(", ")}` : "";
    this.#presence.textContent = `Here now: ${names.join(", ") || "nobody"}${read}`;
  }

  #refused(reason: string) {
    this.#presence.textContent = reason;
  }
}
