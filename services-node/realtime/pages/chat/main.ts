// The chat page: rooms on one side, the room that is open on the other. The room is part of the address (?room=…).
import type { ChannelsClient } from "@hybrid/channels";
import { start } from "../shared/connection.ts";
import { attempt, element, field, find } from "../shared/dom.ts";
import type { Person } from "../shared/sign_in.ts";
import { RoomView } from "./room.ts";
import type { ChatTypes } from "./types.ts";

class Chat {
  readonly #client: ChannelsClient<ChatTypes>;
  readonly #person: Person;
  readonly #rooms = element("ul", { class: "list" });
  readonly #main = element("main", { id: "main", tabindex: "-1" });
  #open: RoomView | undefined;

  constructor(client: ChannelsClient<ChatTypes>, person: Person) {
    this.#client = client;
    this.#person = person;
  }

  begin() {
    const nav = element("nav", { "aria-label": "Rooms" }, element("h2", {}, "Rooms"), this.#rooms, this.#form());
    find("frame").replaceChildren(nav, this.#main);
    this.#main.append(element("p", { class: "soft" }, "Choose a room, or make one."));
    const asked = new URLSearchParams(location.search).get("room");
    if (asked) this.#enter(asked);
    this.#client.on("open", () => void this.#list());
    addEventListener("popstate", () => this.#enter(new URLSearchParams(location.search).get("room") ?? ""));
  }

  #form(): HTMLFormElement {
    const submit = (event: SubmitEvent) => {
      event.preventDefault();
      void this.#create(event.target as HTMLFormElement);
    };
    const name = {
      name: "room",
      required: true,
      pattern: "[a-z0-9][a-z0-9\\-]{0,47}",
      maxlength: 48,
      autocomplete: "off",
    };
    return element(
      "form",
      { onsubmit: submit },
      element("label", {}, "New room", element("input", { ...name, title: "small letters, digits and -" })),
      element("label", { class: "small" }, element("input", { type: "checkbox", name: "private" }), "private"),
      element("button", {}, "Make"),
    );
  }

  async #create(form: HTMLFormElement) {
    const room = field(form, "room");
    const made = this.#client.call(
      "chat.create",
      { room, private: field(form, "private") === "on" },
      { idempotent: true },
    );
    if (!(await attempt(made))) return;
    form.reset();
    this.#go(room);
    await this.#list();
  }

  async #list() {
    const found = await attempt(this.#client.call("chat.rooms", {}, { idempotent: true }));
    if (!found) return;
    const items = found.rooms.map(({ room, private: isPrivate }) => {
      const current = room === this.#open?.name && "true";
      const label = isPrivate ? `${room} (private)` : room;
      return element("li", {}, element("button", { "aria-current": current, onclick: () => this.#go(room) }, label));
    });
    this.#rooms.replaceChildren(...items);
  }

  #go(room: string) {
    history.pushState(null, "", `?room=${encodeURIComponent(room)}`);
    this.#enter(room);
  }

  #enter(room: string) {
    if (room === this.#open?.name) return;
    this.#open?.close();
    this.#open = room ? new RoomView(this.#client, this.#person, room) : undefined;
    this.#main.replaceChildren(...(this.#open ? this.#open.elements : []));
    this.#open?.open();
    if (this.#client.state === "open") void this.#list();
  }
}

// Classes are there only after their declaration.
start<ChatTypes>((client, person) => new Chat(client, person).begin());
