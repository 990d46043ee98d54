// The page: loads a document, lists its operations beside their boxes, filters them, and follows the address.

import { Api } from "./document.js";
import { h, prose } from "./dom.js";
import { operationBox } from "./operation.js";

const OWN = "/openapi.json";
const find = (id) => document.getElementById(id);
const token = () => find("token").value.trim();

let documents = [];

async function load(url) {
  const headers = token() ? { authorization: `Bearer ${token()}` } : {};
  const response = await fetch(url, { headers });
  if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  return response.json();
}

/** Shows one of the documents. */
async function show(url) {
  const main = find("main");
  find("documents").value = url;
  try {
    const listed = documents.find((one) => one.url === url);
    render(new Api(await load(url), listed?.security), url);
  } catch (error) {
    find("list").replaceChildren();
    find("count").textContent = "";
    const retry = h("button", { type: "button", onclick: () => show(url) }, "Try again");
    main.replaceChildren(
      h("h1", {}, "No document"),
      h("p", { class: "bad" }, `${error.message}. Is its service running, and does it need a token?`),
      retry,
    );
  }
}

function render(api, url) {
  const groups = api.groups();
  const main = [
    h("h1", {}, api.title),
    h("p", { class: "soft" }, `Version ${api.json.info?.version ?? "?"} · `, h("a", { href: url }, "openapi.json")),
    prose(api.json.info?.description),
  ];
  const list = [];
  for (const group of groups) {
    const name = group["x-displayName"] ?? group.name;
    const links = group.operations.map((operation) =>
      h(
        "li",
        { "data-text": text(operation) },
        h(
          "a",
          { href: `#${encodeURIComponent(operation.id)}`, title: operation.summary },
          h("span", { class: `verb ${operation.verb}` }, operation.verb),
          h("span", { class: operation.deprecated ? "old" : "" }, operation.path),
        ),
      ),
    );
    list.push(h("section", {}, h("h2", {}, name), h("ul", {}, links)));
    main.push(
      h(
        "section",
        {},
        h("h2", {}, name),
        prose(group.description),
        group.operations.map((operation) => operationBox(api, operation, token)),
      ),
    );
  }
  const omitted = api.json["x-omitted"] ?? [];
  if (omitted.length > 0) {
    main.push(
      h(
        "section",
        {},
        h("h2", {}, "Not in this document"),
        h(
          "ul",
          {},
          omitted.map((one) => h("li", {}, h("code", {}, `${one.method} ${one.path}`), `: ${one.reason}.`)),
        ),
      ),
    );
  }
  find("list").replaceChildren(...list);
  find("main").replaceChildren(...main.flat().filter(Boolean));
  document.title = `${api.title} – API documentation`;
  filter();
  follow();
}

const text = (operation) => [operation.verb, operation.path, operation.summary, operation.id].join(" ").toLowerCase();

/** Hides what does not hold every word of the filter. */
function filter() {
  const words = find("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const section of find("list").children) {
    let any = false;
    for (const item of section.querySelectorAll("li")) {
      item.hidden = !words.every((word) => item.dataset.text.includes(word));
      any ||= !item.hidden;
      count += item.hidden ? 0 : 1;
    }
    section.hidden = !any;
  }
  find("count").textContent = `${count} ${count === 1 ? "operation" : "operations"}`;
}

/** Opens the operation that the address names. */
function follow() {
  const name = decodeURIComponent(location.hash.slice(1));
  for (const link of find("list").querySelectorAll("a")) {
    if (decodeURIComponent(link.hash.slice(1)) === name) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  const box = name && find(name);
  if (box instanceof HTMLDetailsElement) {
    box.open = true;
    box.scrollIntoView();
    box.querySelector("summary").focus({ preventScroll: true });
  }
}

async function start() {
  find("filter").addEventListener("input", filter);
  find("documents").addEventListener("change", (event) => {
    history.replaceState(null, "", location.pathname);
    show(event.target.value);
  });
  window.addEventListener("hashchange", follow);
  documents = (await load(OWN).then(
    (own) => own["x-documents"],
    () => undefined,
  )) ?? [{ name: "contracts", url: OWN }];
  find("documents").append(...documents.map(({ name, url }) => h("option", { value: url }, `${name} (${url})`)));
  await show(OWN);
}

start();
