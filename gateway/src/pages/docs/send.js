// The form of an operation: builds a request, shows it as a curl line, sends it, and shows the answer as it arrives.

import { copyButton, h, id } from "./dom.js";

/** The form; `token()` gives the access token of the page. */
export function form(api, operation, token) {
  const inputs = operation.parameters
    .filter((one) => one.in === "path" || one.in === "query")
    .map((one) => parameterInput(api, one));
  const body = bodyInput(api, operation);
  const accept = acceptInput(api, operation);
  const line = h("pre", { tabindex: "0" });
  const answer = h("div", { class: "answer" });
  const request = () => build(operation, inputs, body, accept);
  const refresh = () => {
    line.textContent = curl(request(), needsToken(operation));
  };
  let controller;
  const stop = h("button", { type: "button", hidden: true, onclick: () => controller?.abort() }, "Stop");
  const submit = async (event) => {
    event.preventDefault();
    controller?.abort();
    controller = new AbortController();
    stop.hidden = false;
    await send(request(), token(), controller, answer);
    stop.hidden = true;
  };
  const rows = inputs.flatMap(({ label, field }) => [label, field]);
  const element = h(
    "form",
    { onsubmit: submit, oninput: refresh },
    h(
      "fieldset",
      {},
      h("legend", {}, "Try it"),
      rows.length + accept.rows.length > 0 && h("div", { class: "inputs" }, rows, accept.rows),
      body.rows,
      h(
        "div",
        { class: "copy" },
        line,
        copyButton(() => line.textContent),
      ),
      h("div", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, "Send"), stop),
      answer,
    ),
  );
  refresh();
  return element;
}

/** Required ones begin with an example; others are sent only when something is in them. */
function parameterInput(api, parameter) {
  const name = id("parameter");
  const schema = api.resolve(parameter.schema) ?? {};
  const example = parameter.example ?? api.sample(schema);
  const text = [example].flat().join(",");
  const choices =
    schema.enum ?? (schema.type === "boolean" || schema.type?.[0] === "boolean" ? ["true", "false"] : undefined);
  const field = choices
    ? h(
        "select",
        { id: name },
        h("option", { value: "" }, ""),
        choices.map((value) => h("option", {}, String(value))),
      )
    : h("input", {
        id: name,
        autocomplete: "off",
        spellcheck: "false",
        placeholder: text,
        required: parameter.required === true,
      });
  if (parameter.required) field.value = text;
  return { parameter, schema, field, label: h("label", { for: name, class: "mono" }, parameter.name) };
}

function bodyInput(api, operation) {
  const [type, media] = Object.entries(operation.body?.content ?? {})[0] ?? [];
  if (type === undefined) return { rows: [], read: () => undefined };
  const name = id("body");
  if (type === "*/*") {
    const field = h("input", { id: name, type: "file" });
    const read = () => ({
      type: field.files[0]?.type || "application/octet-stream",
      content: field.files[0] ?? "",
      shown: "@file",
    });
    return { rows: [h("p", {}, h("label", { for: name }, "Content "), field)], read };
  }
  const example = api.example(media);
  const text = type === "application/x-ndjson" ? JSON.stringify(example) : JSON.stringify(example, null, 2);
  const field = h("textarea", { id: name, spellcheck: "false", rows: "9" });
  field.value = text ?? "";
  const read = () => ({ type, content: field.value, shown: compact(field.value, type) });
  return { rows: [h("label", { for: name }, "Body ", h("span", { class: "soft mono" }, type)), field], read };
}

/** JSON on one line, for a shell. */
function compact(text, type) {
  if (!type.includes("json") || type.includes("ndjson")) return text;
  try {
    return JSON.stringify(JSON.parse(text));
  } catch {
    return text;
  }
}

function acceptInput(api, operation) {
  const good = Object.entries(operation.responses ?? {}).find(([status]) => status.startsWith("2"))?.[1];
  const types = Object.keys(api.resolve(good)?.content ?? {});
  if (types.length < 2) return { rows: [], value: () => undefined, streams: types.some(isStream) };
  const name = id("accept");
  const field = h(
    "select",
    { id: name },
    types.map((type) => h("option", {}, type)),
  );
  return {
    rows: [h("label", { for: name, class: "mono" }, "accept"), field],
    value: () => field.value,
    streams: types.some(isStream),
  };
}

const isStream = (type) => type.startsWith("text/event-stream") || type.startsWith("application/x-ndjson");

function build(operation, inputs, body, accept) {
  let path = operation.path;
  const query = [];
  for (const { parameter, schema, field } of inputs) {
    if (parameter.in === "path") {
      const encoded = parameter["x-allow-reserved"]
        ? field.value.split("/").map(encodeURIComponent).join("/")
        : encodeURIComponent(field.value);
      path = path.replace(`{${parameter.name}}`, encoded);
    } else if (field.value !== "") {
      const list = [schema.type].flat().includes("array") ? field.value.split(",") : [field.value];
      query.push(...list.map((value) => `${encodeURIComponent(parameter.name)}=${encodeURIComponent(value.trim())}`));
    }
  }
  const url = location.origin + path + (query.length > 0 ? `?${query.join("&")}` : "");
  return {
    verb: operation.verb.toUpperCase(),
    url,
    body: body.read(),
    accept: accept.value(),
    streams: accept.streams,
  };
}

function needsToken(operation) {
  return operation.security.length > 0 && !operation.security.some((way) => Object.keys(way).length === 0);
}

/** The request for a shell. The token is a variable there, so that none is copied by accident. */
function curl(request, withToken) {
  const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const parts = ["curl"];
  if (request.streams) parts.push("-N");
  if (request.verb === "HEAD") parts.push("-I");
  else if (request.verb !== (request.body ? "POST" : "GET")) parts.push("-X", request.verb);
  parts.push(quote(request.url));
  if (withToken) parts.push("-H", '"authorization: Bearer $TOKEN"');
  if (request.accept) parts.push("-H", quote(`accept: ${request.accept}`));
  if (request.body)
    parts.push("-H", quote(`content-type: ${request.body.type}`), "--data-binary", quote(request.body.shown));
  return parts.join(" ");
}

async function send(request, token, controller, answer) {
  const status = h("p", { role: "status" }, "Sending…");
  answer.replaceChildren(status);
  const headers = {};
  if (token) headers.authorization = `Bearer ${token}`;
  if (request.accept) headers.accept = request.accept;
  if (request.body) headers["content-type"] = request.body.type;
  const started = performance.now();
  const time = () => `${Math.round(performance.now() - started)} ms`;
  try {
    const response = await fetch(request.url, {
      method: request.verb,
      headers,
      body: request.body?.content,
      signal: controller.signal,
      cache: "no-store",
    });
    const type = response.headers.get("content-type") ?? "";
    status.replaceChildren(
      h("strong", { class: response.ok ? "good" : "bad" }, String(response.status)),
      ` ${response.statusText} after ${time()}. `,
    );
    answer.append(
      h(
        "p",
        { class: "soft mono" },
        ["content-type", "x-request-id", "server-timing", "retry-after", "etag"]
          .filter((name) => response.headers.has(name))
          .flatMap((name) => [`${name}: ${response.headers.get(name)}`, h("br")]),
      ),
    );
    if (isStream(type)) await showStream(response, type, answer);
    else await showBody(response, type, answer);
    status.append(`Ended after ${time()}.`);
  } catch (error) {
    const stopped = error.name === "AbortError";
    status.append(
      h("span", { class: stopped ? "" : "bad" }, stopped ? ` Stopped after ${time()}.` : ` ${error.message}`),
    );
  }
}

async function showBody(response, type, answer) {
  if (/json|text|xml/.test(type)) {
    const text = await response.text();
    answer.append(h("pre", { tabindex: "0" }, pretty(text)));
    return;
  }
  const blob = await response.blob();
  if (blob.size === 0) return;
  const url = URL.createObjectURL(blob);
  if (type.startsWith("image/")) answer.append(h("img", { src: url, alt: "The answer" }));
  answer.append(h("p", {}, h("a", { href: url, download: "answer" }, `Save ${blob.size} bytes`)));
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** Shows each event or line when it is complete. */
async function showStream(response, type, answer) {
  const events = h("div", { class: "events", role: "log", "aria-label": "Events", tabindex: "0" });
  answer.append(events);
  const end = type.startsWith("text/event-stream") ? /\r?\n\r?\n/ : /\r?\n/;
  let rest = "";
  for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
    const pieces = (rest + text).split(end);
    rest = pieces.pop();
    for (const piece of pieces.filter((piece) => piece !== "" && !piece.startsWith(":"))) {
      const bottom = events.scrollTop + events.clientHeight >= events.scrollHeight - 8;
      events.append(h("pre", { class: piece.startsWith("event: error") ? "bad" : "" }, piece));
      if (bottom) events.scrollTop = events.scrollHeight;
    }
  }
  if (rest !== "") events.append(h("pre", {}, rest));
}
