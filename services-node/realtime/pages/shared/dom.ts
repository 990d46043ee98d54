// Elements in one expression. Text is always text: nothing that people write becomes markup.

type Content = Node | string | null | undefined | false;

/** An element with its attributes (`on…`: a listener; true: present; false, null: absent) and content. */
export function element<K extends keyof HTMLElementTagNameMap>(
  name: K,
  attributes: Record<string, unknown> = {},
  ...content: Content[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key.slice(2), value as EventListener);
    else if (value !== false && value !== null && value !== undefined)
      made.setAttribute(key, value === true ? "" : `${value}`);
  }
  made.append(...content.filter((one) => one !== null && one !== undefined && one !== false));
  return made;
}

/** The element that a page's frame has. */
export function find<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found as T;
}

let hide: ReturnType<typeof setTimeout> | undefined;

/** Says what went wrong, for a while. */
export function note(text: string) {
  const place = find("note");
  place.textContent = text;
  place.hidden = false;
  clearTimeout(hide);
  hide = setTimeout(() => {
    place.hidden = true;
  }, 6_000);
}

/** Carries out what a person asked for; a failure is shown, not thrown. */
export async function attempt<T>(what: Promise<T>): Promise<T | undefined> {
  try {
    return await what;
  } catch (error) {
    note(error instanceof Error ? error.message : String(error));
    return undefined;
  }
}

/** What a form's field holds, trimmed. */
export function field(form: HTMLFormElement, name: string): string {
  return String(new FormData(form).get(name) ?? "").trim();
}
