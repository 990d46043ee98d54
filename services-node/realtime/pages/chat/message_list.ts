// A room's messages on the page, ordered by id, each changed in place; and answers while they are written.
import { element } from "../shared/dom.ts";
import type { AnswerState, Message, Publication } from "./types.ts";

export type Actions = {
  edit(id: number, text: string): void;
  remove(id: number): void;
  cancel(answer: string): void;
};

const GONE = { deleted: "deleted by its author", withdrawn: "withdrawn: it read as offensive" };
const REVIEWS = { passed: "", pending: "not reviewed yet", flagged: "may be offensive" };
/** This close to the end, a person wants to see what is new. */
const NEAR_PX = 120;

export class MessageList {
  readonly element = element("ol", { class: "messages", role: "log", "aria-label": "Messages", tabindex: "0" });
  readonly #subject: string;
  readonly #actions: Actions;
  readonly #messages = new Map<number, { message: Message; item: HTMLLIElement }>();
  readonly #answers = new Map<string, HTMLLIElement>();

  constructor(subject: string, actions: Actions) {
    this.#subject = subject;
    this.#actions = actions;
  }

  get oldest(): number | undefined {
    return this.#messages.size > 0 ? Math.min(...this.#messages.keys()) : undefined;
  }

  get newest(): number | undefined {
    return this.#messages.size > 0 ? Math.max(...this.#messages.keys()) : undefined;
  }

  put(messages: Message[]) {
    this.#keepingPlace(() => {
      for (const message of messages) this.#show(message);
    });
  }

  /** What a publication says has changed. Messages that are not on the page need not change. */
  apply(publication: Publication) {
    this.#keepingPlace(() => {
      if (publication.type === "message") return this.#show({ ...publication, edited_at: null, state: "visible" });
      const known = this.#messages.get(publication.id)?.message;
      if (!known) return;
      const { type, id: _, ...changed } = publication;
      if (type === "deleted" || type === "withdrawn") this.#show({ ...known, state: type, text: "" });
      else this.#show({ ...known, ...changed });
    });
  }

  /** An answer as it is written; in the end it is a message of its own. */
  answer(key: string, state: AnswerState | undefined) {
    const isOver = !state || state.status === "done" || state.status === "cancelled";
    this.#keepingPlace(() => {
      const before = this.#answers.get(key);
      if (isOver) {
        before?.remove();
        this.#answers.delete(key);
        return;
      }
      const item = this.#answerItem(key, state);
      if (before) before.replaceWith(item);
      else this.element.append(item);
      this.#answers.set(key, item);
    });
  }

  /** A message on its way. */
  sending(text: string): HTMLElement {
    const meta = element("p", { class: "meta" }, element("strong", {}, this.#subject), "sending…");
    const item = element("li", { class: "message mine" }, meta, element("p", { class: "text" }, text));
    this.element.append(item);
    this.#toEnd();
    return item;
  }

  #show(message: Message) {
    const known = this.#messages.get(message.id);
    const item = this.#item(message);
    this.#messages.set(message.id, { message, item });
    if (known) return known.item.replaceWith(item);
    const next = [...this.#messages].filter(([id]) => id > message.id).sort(([a], [b]) => a - b)[0];
    // Answers and what is being sent stay behind all messages.
    const tail = next?.[1].item ?? [...this.element.children].find((one) => !(one as HTMLElement).dataset.id);
    this.element.insertBefore(item, tail ?? null);
  }

  #item(message: Message): HTMLLIElement {
    const { id, author, text, at, edited_at: editedAt, state, review, answer } = message;
    const isMine = author === this.#subject;
    const time = element("time", { datetime: new Date(at).toISOString() }, new Date(at).toLocaleTimeString());
    const meta = element(
      "p",
      { class: "meta" },
      element("strong", {}, author === "service:ai" ? "assistant" : author),
      time,
      editedAt !== null && "edited",
      state === "visible" && REVIEWS[review] !== "" && element("span", { class: "flag" }, REVIEWS[review]),
    );
    if (isMine && state === "visible") meta.append(...this.#buttons(id, text));
    const body =
      state === "visible" ? element("p", { class: "text" }, text) : element("p", { class: "gone" }, GONE[state]);
    const sources = answer && answer.citations.length > 0 && sourcesOf(answer.citations);
    const item = element("li", { class: `message${isMine ? " mine" : ""}`, "data-id": id }, meta, body, sources);
    if (answer?.notice) item.append(element("p", { class: "soft small" }, answer.notice));
    return item;
  }

  #buttons(id: number, text: string): HTMLElement[] {
    const edit = () => {
      const changed = prompt("Change the message", text)?.trim();
      if (changed && changed !== text) this.#actions.edit(id, changed);
    };
    const remove = () => confirm("Delete this message?") && this.#actions.remove(id);
    return [
      element("button", { class: "link small", type: "button", onclick: edit, "aria-label": `Edit: ${text}` }, "Edit"),
      element(
        "button",
        { class: "link small", type: "button", onclick: remove, "aria-label": `Delete: ${text}` },
        "Delete",
      ),
    ];
  }

  #answerItem(key: string, { asked_by: askedBy, status, text, reason }: AnswerState): HTMLLIElement {
    const said = { waiting: "is thinking…", writing: "is writing…", failed: `failed: ${reason ?? "unknown"}` };
    const meta = element("p", { class: "meta" }, element("strong", {}, "assistant"), said[status as "writing"]);
    if (askedBy === this.#subject && status !== "failed") {
      const cancel = () => this.#actions.cancel(key);
      meta.append(element("button", { class: "link small", type: "button", onclick: cancel }, "Cancel"));
    }
    // It changes many times a second: read aloud it is only when it has become a message.
    return element("li", { class: "message", "aria-live": "off" }, meta, element("p", { class: "text" }, text));
  }

  #keepingPlace(change: () => void) {
    const { scrollHeight, scrollTop, clientHeight } = this.element;
    const isNear = scrollHeight - scrollTop - clientHeight < NEAR_PX;
    change();
    if (isNear) this.#toEnd();
    else this.element.scrollTop = scrollTop;
  }

  #toEnd() {
    this.element.scrollTop = this.element.scrollHeight;
  }
}

function sourcesOf(citations: { number: number; title: string; passage: string }[]): HTMLElement {
  const items = citations.map(({ number, title, passage }) =>
    element("li", { value: number }, element("cite", {}, title), ` – ${passage}`),
  );
  return element("details", { class: "small" }, element("summary", {}, "Sources"), element("ol", {}, ...items));
}
