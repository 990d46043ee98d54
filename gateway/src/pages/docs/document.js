// An OpenAPI document (3.0 or 3.1): its operations, its references, and samples of its schemas.

const VERBS = ["get", "post", "put", "patch", "delete", "head", "options", "trace"];

export class Api {
  /** `security`: what the gateway asks for where the document says nothing. */
  constructor(json, security = []) {
    this.json = json;
    this.security = security;
    this.title = json.info?.title ?? "API";
    this.operations = Object.entries(json.paths ?? {}).flatMap(([path, item]) =>
      VERBS.filter((verb) => item[verb]).map((verb) => this.operation(path, verb, item)),
    );
  }

  operation(path, verb, item) {
    const operation = item[verb];
    const own = (operation.parameters ?? []).map((parameter) => this.resolve(parameter));
    const shared = (item.parameters ?? []).map((parameter) => this.resolve(parameter));
    const overridden = (parameter) => own.some((one) => one.name === parameter.name && one.in === parameter.in);
    return {
      ...operation,
      path,
      verb,
      id: operation.operationId ?? `${verb} ${path}`,
      tag: operation.tags?.[0] ?? "Operations",
      parameters: [...shared.filter((parameter) => !overridden(parameter)), ...own],
      body: this.resolve(operation.requestBody),
      security: operation.security ?? this.json.security ?? this.security,
    };
  }

  /** The tags in the document's order with their operations. */
  groups() {
    const groups = new Map((this.json.tags ?? []).map((tag) => [tag.name, { ...tag, operations: [] }]));
    for (const operation of this.operations) {
      if (!groups.has(operation.tag)) groups.set(operation.tag, { name: operation.tag, operations: [] });
      groups.get(operation.tag).operations.push(operation);
    }
    return [...groups.values()].filter((group) => group.operations.length > 0);
  }

  /** What a `$ref` inside the document points at; what stands beside the reference counts, too. */
  resolve(value) {
    const seen = new Set();
    while (value?.$ref?.startsWith("#/") && !seen.has(value.$ref)) {
      seen.add(value.$ref);
      const parts = value.$ref
        .slice(2)
        .split("/")
        .map((part) => decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~"));
      const { $ref, ...beside } = value;
      value = { ...parts.reduce((at, part) => at?.[part], this.json), ...beside, "x-name": parts.at(-1) };
    }
    return value;
  }

  /** An example of a media type or parameter: its own, or one made from the schema. */
  example(holder) {
    if (holder?.example !== undefined) return holder.example;
    const first = Object.values(holder?.examples ?? {})[0];
    return first?.value ?? this.sample(holder?.schema);
  }

  sample(schema, depth = 0) {
    const of = this.resolve(schema);
    if (of === undefined || of === true || depth > 4) return undefined;
    for (const given of [of.example, of.examples?.[0], of.default, of.const, of.enum?.[0]]) {
      if (given !== undefined) return given;
    }
    const choice = (of.anyOf ?? of.oneOf)?.[0];
    if (choice) return this.sample(choice, depth);
    if (of.allOf) return Object.assign({}, ...of.allOf.map((part) => this.sample(part, depth)));
    const type = Array.isArray(of.type) ? of.type.find((one) => one !== "null") : of.type;
    if (type === "object" || of.properties) {
      const entries = Object.entries(of.properties ?? {}).map(([name, property]) => [
        name,
        this.sample(property, depth + 1),
      ]);
      return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
    }
    if (type === "array") return [this.sample(of.items, depth + 1)].filter((item) => item !== undefined);
    if (type === "integer" || type === "number") return of.minimum ?? 1;
    if (type === "boolean") return true;
    if (type === "string") return of.format === "date-time" ? "2026-01-02T03:04:05Z" : "text";
    return undefined;
  }
}
