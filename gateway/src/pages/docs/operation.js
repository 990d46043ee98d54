// One operation: what it does, who may call it, its parameters, body and responses, and the form that sends it.

import { h, inline, lazy, prose } from "./dom.js";
import { schemaTree, typeName } from "./schema.js";
import { form } from "./send.js";

/** A closed box; its content is made when it is opened. */
export function operationBox(api, operation, token) {
  const summary = h(
    "summary",
    {},
    h("span", { class: `verb ${operation.verb}` }, operation.verb),
    h("span", { class: `path${operation.deprecated ? " old" : ""}` }, operation.path),
    h("span", { class: "soft" }, inline(operation.summary ?? "")),
  );
  return lazy({ class: "operation", id: operation.id }, summary, () => content(api, operation, token));
}

function content(api, operation, token) {
  return h(
    "div",
    { class: "inside" },
    operation.deprecated && h("p", { class: "bad" }, "Deprecated."),
    prose(operation.description),
    h(
      "p",
      { class: "soft" },
      access(operation),
      operation["x-grpc-method"] && [" gRPC: ", h("code", {}, operation["x-grpc-method"]), "."],
    ),
    operation.parameters.length > 0 && [h("h3", {}, "Parameters"), parameters(api, operation.parameters)],
    operation.body && [h("h3", {}, "Body"), prose(operation.body.description), contents(api, operation.body.content)],
    h("h3", {}, "Responses"),
    responses(api, operation.responses ?? {}),
    form(api, operation, token),
  );
}

/** Who may call it, in a sentence. */
function access(operation) {
  const ways = operation.security;
  if (ways.length === 0) return "No token is needed.";
  const scopes = [...new Set(ways.flatMap((way) => Object.values(way).flat()))];
  const needed = scopes.length > 0 ? `Needs a token with ${scopes.join(", ")}.` : "Needs a token.";
  return ways.some((way) => Object.keys(way).length === 0) ? "Anybody may call it; a token says who calls." : needed;
}

function parameters(api, list) {
  const rows = list.map((parameter) =>
    h(
      "tr",
      {},
      h(
        "td",
        {},
        h("code", { class: parameter.deprecated ? "old" : "" }, parameter.name),
        h("br"),
        h("span", { class: "type" }, parameter.in, parameter.required ? ", required" : ""),
      ),
      h(
        "td",
        {},
        h("span", { class: "type" }, typeName(api, parameter.schema)),
        parameter["x-oneof"] && [" ", h("span", { class: "tag" }, `one of ${parameter["x-oneof"]}`)],
        prose(parameter.description),
        allowed(api, parameter.schema),
        parameter["x-pattern"] && h("p", { class: "soft" }, "Part of ", h("code", {}, parameter["x-pattern"]), "."),
        parameter["x-allow-reserved"] && h("p", { class: "soft" }, "May contain slashes."),
      ),
    ),
  );
  return h(
    "table",
    {},
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Name"), h("th", { scope: "col" }, "What it is"))),
    h("tbody", {}, rows),
  );
}

function allowed(api, schema) {
  const of = api.resolve(schema);
  const found = of?.enum ?? api.resolve(of?.items)?.enum;
  return (
    found &&
    h(
      "p",
      { class: "soft" },
      found.flatMap((value, at) => [at > 0 && " ", h("code", {}, String(value))]),
    )
  );
}

/** What goes well is open; the rest is behind one line. */
function responses(api, all) {
  const boxes = (entries) => entries.map(([status, response]) => responseBox(api, status, api.resolve(response)));
  const good = Object.entries(all).filter(([status]) => status.startsWith("2"));
  const others = Object.entries(all).filter(([status]) => !status.startsWith("2"));
  const label = h("summary", {}, `Errors and others (${others.length})`);
  return [boxes(good), others.length > 0 && lazy({}, label, () => h("div", {}, boxes(others)))];
}

function responseBox(api, status, response) {
  const good = status.startsWith("2");
  const label = h(
    "summary",
    {},
    h("strong", { class: good ? "good" : "" }, status),
    " ",
    inline(response.description?.split("\n")[0] ?? ""),
  );
  const box = lazy({}, label, () => h("div", {}, headers(response), contents(api, response.content)));
  box.open = good;
  return box;
}

function headers(response) {
  const names = Object.keys(response.headers ?? {});
  return names.length > 0 && h("p", { class: "soft" }, "Headers: ", names.join(", "));
}

/** Each media type with its schema and an example. */
function contents(api, content) {
  return Object.entries(content ?? {}).map(([type, media], at) => {
    const example = api.example(media);
    const text = typeof example === "string" ? example : JSON.stringify(example, null, 2);
    const inside = () =>
      h(
        "div",
        {},
        schemaTree(api, media["x-stream"]?.item ?? media.schema),
        example !== undefined && lazy({}, h("summary", {}, "Example"), () => h("pre", {}, text)),
      );
    const only = Object.keys(content).length === 1;
    if (only) return h("div", {}, h("p", { class: "soft mono" }, type), inside());
    const box = lazy({}, h("summary", { class: "mono" }, type), inside);
    box.open = at === 0;
    return box;
  });
}
