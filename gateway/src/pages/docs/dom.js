// Builds elements. Text of a document only ever becomes text nodes, never markup.

/** An element with attributes, listeners (`onclick`) and children; `false` and `undefined` are left out. */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== false));
  return element;
}

/** Paragraphs, lists and `code` of a description. */
export function prose(text) {
  return (text ?? "")
    .split(/\n\s*\n/)
    .filter(Boolean)
    .flatMap((block) => {
      const lines = block.split("\n");
      const first = lines.findIndex((line) => /^\s*[-*] /.test(line));
      const before = first < 0 ? lines : lines.slice(0, first);
      const items =
        first < 0 ? [] : lines.slice(first).map((line) => h("li", {}, inline(line.replace(/^\s*[-*] /, ""))));
      return [before.length > 0 && h("p", {}, inline(before.join(" "))), items.length > 0 && h("ul", {}, items)].filter(
        Boolean,
      );
    });
}

/** Text in which `backticks` mark code. */
export function inline(text) {
  return text.split(/`([^`]+)`/).map((part, at) => (at % 2 === 1 ? h("code", {}, part) : part));
}

/** A `details` whose content is made when it is first opened. */
export function lazy(attributes, summary, content) {
  const details = h("details", attributes, summary);
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) details.append(content());
  });
  return details;
}

let last = 0;
/** An id that no other element has. */
export function id(prefix) {
  last += 1;
  return `${prefix}-${last}`;
}

/** A button that copies what `text()` gives. */
export function copyButton(text) {
  const button = h("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    const done = await navigator.clipboard.writeText(text()).then(
      () => "Copied",
      () => "Not allowed",
    );
    button.textContent = done;
    setTimeout(() => {
      button.textContent = "Copy";
    }, 1500);
  });
  return button;
}
