// Shows schemas as expandable trees. What a reference leads to is rendered when it is opened, so recursion ends.

import { h, inline, lazy, prose } from "./dom.js";

/** The type in a few words: `array of hybrid.ai.v1.Document`. */
export function typeName(api, schema) {
  const of = api.resolve(schema);
  if (of === undefined || of === true || Object.keys(of).length === 0) return "any value";
  if (of.type === "array") return `array of ${typeName(api, of.items)}`;
  if (of["x-name"]) return of["x-name"];
  if (of.const !== undefined) return JSON.stringify(of.const);
  for (const [key, word] of [
    ["anyOf", " or "],
    ["oneOf", " or "],
    ["allOf", " and "],
  ]) {
    if (of[key]) return of[key].map((part) => typeName(api, part)).join(word);
  }
  if (of.additionalProperties && typeof of.additionalProperties === "object")
    return `map of ${typeName(api, of.additionalProperties)}`;
  const types = [of.type ?? (of.properties ? "object" : "any value")].flat();
  if (of.nullable) types.push("null");
  return (
    types.join(" or ") + (of.format ? ` (${of.format})` : "") + (of.contentEncoding ? ` (${of.contentEncoding})` : "")
  );
}

/** Bounds that a caller should know. */
function bounds(of) {
  const parts = [];
  const range = (low, high, what) => {
    if (low !== undefined && high !== undefined) parts.push(`${low} to ${high}${what}`);
    else if (low !== undefined) parts.push(`at least ${low}${what}`);
    else if (high !== undefined) parts.push(`at most ${high}${what}`);
  };
  if (!/^u?int(32|64)$/.test(of.format ?? "")) range(of.minimum, of.maximum, "");
  range(of.minLength, of.maxLength, " characters");
  range(of.minItems, of.maxItems, " items");
  if (of.default !== undefined) parts.push(`default ${JSON.stringify(of.default)}`);
  return parts.join(", ");
}

/** A schema as a whole: its members, or what it is. */
export function schemaTree(api, schema) {
  const of = api.resolve(schema) ?? {};
  const inner = nested(api, of);
  return h("div", {}, h("p", { class: "type" }, typeName(api, schema)), inner ?? [], values(of));
}

/** The members behind a schema, if it has any. */
function nested(api, of) {
  if (of.properties) return members(api, of);
  const below = of.type === "array" ? of.items : of.additionalProperties;
  if (below && typeof below === "object") {
    const found = api.resolve(below);
    return nested(api, found) ?? values(found);
  }
  const parts = (of.anyOf ?? of.oneOf ?? of.allOf ?? []).map((part) => nested(api, api.resolve(part))).filter(Boolean);
  return parts.length > 0 ? h("div", {}, parts) : undefined;
}

function members(api, of) {
  const oneof = (name) => of["x-oneof"]?.find((one) => one.members.includes(name));
  return h(
    "ul",
    { class: "schema" },
    Object.entries(of.properties).map(([name, property]) =>
      member(api, name, property, of.required?.includes(name), oneof(name)),
    ),
  );
}

function member(api, name, property, required, oneof) {
  const found = api.resolve(property) ?? {};
  const head = [
    h("code", { class: found.deprecated ? "old" : "" }, name),
    " ",
    h("span", { class: "type" }, typeName(api, property)),
    required && h("span", { class: "tag" }, "required"),
    oneof && h("span", { class: "tag", title: oneof.members.join(", ") }, `one of ${oneof.name}`),
  ];
  const limits = bounds(found);
  const text = [prose(property.description ?? found.description), limits && h("p", { class: "soft" }, limits)];
  const expandable = found.enum || hasMembers(api, found);
  if (!expandable) return h("li", {}, head, text);
  return h(
    "li",
    {},
    lazy({}, h("summary", {}, head), () => h("div", {}, nested(api, found) ?? values(found))),
    text,
  );
}

function hasMembers(api, of, depth = 0) {
  if (of === undefined || depth > 4) return false;
  if (of.properties || of.enum) return true;
  const below = [of.items, of.additionalProperties, ...(of.anyOf ?? of.oneOf ?? of.allOf ?? [])];
  return below.some((part) => part && typeof part === "object" && hasMembers(api, api.resolve(part), depth + 1));
}

/** An enum's values with what is said of them. */
function values(of) {
  if (!of?.enum) return [];
  const said = of["x-enumDescriptions"] ?? {};
  return h(
    "ul",
    { class: "schema" },
    of.enum.map((value) =>
      h("li", {}, h("code", {}, String(value)), " ", h("span", { class: "soft" }, inline(said[value] ?? ""))),
    ),
  );
}
