// The board page: a board's series as they come. Everything shown is the latest value of a key of board:<name>; what was
// before it, the page has seen itself.
import type { Channel, ChannelsClient } from "@hybrid/channels";
import { start } from "../shared/connection.ts";
import { attempt, element, field, find } from "../shared/dom.ts";
import { Tile } from "./tile.ts";
import type { Board, BoardTypes, BoardValue } from "./types.ts";

class Boards {
  readonly #client: ChannelsClient<BoardTypes>;
  readonly #list = element("ul", { class: "list" });
  readonly #main = element("main", { id: "main", tabindex: "-1" });
  #open: { name: string; close: () => void } | undefined;

  constructor(client: ChannelsClient<BoardTypes>) {
    this.#client = client;
  }

  begin() {
    const nav = element("nav", { "aria-label": "Boards" }, element("h2", {}, "Boards"), this.#list, this.#form());
    find("frame").replaceChildren(nav, this.#main);
    this.#main.append(element("p", { class: "soft" }, "Choose a board, or make one."));
    this.#enter(new URLSearchParams(location.search).get("board"));
    this.#client.on("open", () => void this.#refresh());
    addEventListener("popstate", () => this.#enter(new URLSearchParams(location.search).get("board")));
  }

  #form(): HTMLFormElement {
    const submit = (event: SubmitEvent) => {
      event.preventDefault();
      void this.#create(event.target as HTMLFormElement);
    };
    const name = {
      name: "board",
      required: true,
      pattern: "[a-z0-9][a-z0-9\\-]{0,47}",
      maxlength: 48,
      autocomplete: "off",
    };
    const devices = { name: "devices", required: true, autocomplete: "off", placeholder: "boiler-1, boiler-2" };
    return element(
      "form",
      { onsubmit: submit },
      element("label", {}, "New board", element("input", { ...name, title: "small letters, digits and -" })),
      element("label", {}, "Devices", element("input", devices)),
      element("button", {}, "Make"),
    );
  }

  async #create(form: HTMLFormElement) {
    const devices = field(form, "devices")
      .split(/[\s,]+/)
      .filter(Boolean);
    const board = field(form, "board");
    if (!(await attempt(this.#client.call("boards.put", { board, devices }, { idempotent: true })))) return;
    form.reset();
    this.#go(board);
    await this.#refresh();
  }

  async #refresh() {
    const found = await attempt(this.#client.call("boards.list", {}, { idempotent: true }));
    if (!found) return;
    const items = found.boards.map(({ board }) => {
      const current = board === this.#open?.name && "true";
      return element("li", {}, element("button", { "aria-current": current, onclick: () => this.#go(board) }, board));
    });
    this.#list.replaceChildren(...items);
  }

  #go(board: string) {
    history.pushState(null, "", `?board=${encodeURIComponent(board)}`);
    this.#enter(board);
  }

  #enter(name: string | null) {
    if (!name || name === this.#open?.name) return;
    this.#open?.close();
    const view = new BoardView(this.#client, name);
    this.#open = { name, close: () => view.close() };
    this.#main.replaceChildren(...view.elements);
    view.open();
    if (this.#client.state === "open") void this.#refresh();
  }
}

class BoardView {
  readonly elements: HTMLElement[];
  readonly #client: ChannelsClient<BoardTypes>;
  readonly #board: Channel<BoardTypes["channels"]["board"]>;
  readonly #about = element("p", { class: "soft small" });
  readonly #presence = element("p", { class: "soft small", role: "status" });
  readonly #grid = element("div", { class: "series" });
  readonly #tiles = new Map<string, Tile>();
  readonly #there = new Map<string, string>();
  readonly #ends: (() => void)[] = [];

  constructor(client: ChannelsClient<BoardTypes>, name: string) {
    this.#client = client;
    this.#board = client.channel(`board:${name}`);
    const head = element("div", {}, element("h1", {}, name), this.#about, this.#presence);
    this.elements = [head, this.#grid, this.#form()];
  }

  open() {
    this.#ends.push(
      this.#board.on("subscribed", ({ data }) => void this.#subscribed(data as Board)),
      // The values that follow are all there is.
      this.#board.on("reset", () => this.#clear()),
      this.#board.on("publication", ({ data, latestKey, removed }) =>
        this.#show(latestKey, removed ? undefined : data),
      ),
      this.#board.on("presence", ({ joined, left }) => {
        for (const { session, subject } of joined) this.#there.set(session, subject);
        for (const session of left) this.#there.delete(session);
        this.#showPresence();
      }),
      this.#board.on("unsubscribed", (error) => {
        if (error.retryAfterMs === 0) this.#presence.textContent = error.message;
      }),
    );
    this.#board.subscribe();
  }

  close() {
    for (const end of this.#ends) end();
    this.#board.unsubscribe();
  }

  async #subscribed(about: Board) {
    this.#about.textContent = `Devices: ${about.devices.join(", ")} · made by ${about.owner}`;
    const there = await attempt(this.#board.presence());
    if (!there) return;
    this.#there.clear();
    for (const { session, subject } of there.members) this.#there.set(session, subject);
    this.#showPresence();
  }

  #show(key: string, value: BoardValue | undefined) {
    const series = key.slice(0, key.lastIndexOf("/"));
    if (!value) {
      this.#tiles.get(series)?.element.remove();
      this.#tiles.delete(series);
      return;
    }
    const known = this.#tiles.get(series);
    const tile = known ?? new Tile(value.device, value.metric);
    if (!known) {
      this.#tiles.set(series, tile);
      this.#grid.append(tile.element);
    }
    tile.show(value);
  }

  #clear() {
    this.#tiles.clear();
    this.#grid.replaceChildren();
  }

  #showPresence() {
    const names = [...new Set(this.#there.values())].sort();
    this.#presence.textContent = `Looking at it now: ${names.join(", ") || "nobody"}`;
  }

  /** One reading by hand, as a device would publish it. */
  #form(): HTMLFormElement {
    const input = (name: string, more: object) =>
      element("input", { name, required: true, autocomplete: "off", ...more });
    const form = element(
      "form",
      { class: "composer" },
      element("label", {}, "Device", input("device", { placeholder: "boiler-1" })),
      element("label", {}, "Metric", input("metric", { placeholder: "temperature" })),
      element("label", {}, "Value", input("value", { type: "number", step: "any" })),
      element("button", {}, "Send a reading"),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const point = { metric: field(form, "metric"), time: Date.now(), value: Number(field(form, "value")) };
      void attempt(this.#client.channel(`telemetry:${field(form, "device")}`).publish({ points: [point] }));
    });
    return form;
  }
}

// Classes are there only after their declaration.
start<BoardTypes>((client) => new Boards(client).begin());
