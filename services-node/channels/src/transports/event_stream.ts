// Reads server-sent events (WHATWG HTML, 9.2.6) from text that comes in pieces of any size.

export type ServerEvent = { event: string; data: string; id: string | undefined };

export class EventReader {
  #rest = "";
  #event = "";
  #data: string[] = [];
  #id: string | undefined;

  /** The events that are whole now. */
  read(text: string): ServerEvent[] {
    // A \r at the end may be half of a line end: it waits for what follows.
    const whole = this.#rest + text;
    const end = whole.endsWith("\r") ? whole.length - 1 : whole.length;
    const lines = whole.slice(0, end).split(/\r\n|\n|\r/);
    this.#rest = lines.pop()! + whole.slice(end);
    return lines.flatMap((line) => this.#line(line) ?? []);
  }

  #line(line: string): ServerEvent | undefined {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") this.#event = value;
    else if (name === "data") this.#data.push(value);
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    return undefined;
  }

  #dispatch(): ServerEvent | undefined {
    const found = { event: this.#event || "message", data: this.#data.join("\n"), id: this.#id };
    const isEmpty = this.#data.length === 0;
    this.#event = "";
    this.#data = [];
    return isEmpty ? undefined : found;
  }
}
