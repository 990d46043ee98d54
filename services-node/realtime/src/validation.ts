// JSON schema validation for every route: bodies are taken as they are, query strings and
// paths are text and so coerced; what a schema does not name is refused and named.

import { Ajv } from "ajv";
import type { FastifyInstance } from "fastify";
import type { FastifySchemaValidationError } from "fastify/types/schema.js";
import { type FieldError, Problem } from "./problems.ts";

const MAX_ERRORS = 20;

export function useValidation(app: FastifyInstance) {
  const body = newAjv(false);
  const text = newAjv("array");
  app.setValidatorCompiler(({ schema, httpPart }) => (httpPart === "body" ? body : text).compile(schema as object));
  app.setSchemaErrorFormatter((errors, part) => {
    const fields = errors.slice(0, MAX_ERRORS).map((error) => fieldError(error, part));
    return new Problem("invalid_argument", `The request's ${part} is not valid.`, { errors: fields });
  });
}

/** Checks one value that came some other way than a request's body. Throws the problem, which names `what` is wrong. */
export function checker(schema: object, what: string): (value: unknown) => void {
  const validate = newAjv(false).compile(schema);
  return (value) => {
    if (validate(value)) return;
    const errors = (validate.errors ?? []) as unknown as FastifySchemaValidationError[];
    const fields = errors.slice(0, MAX_ERRORS).map((error) => fieldError(error, what));
    const wrong = fields.map(({ field, description }) => `${field} ${description}`).join("; ");
    throw new Problem("invalid_argument", `The ${what} is not valid: ${wrong}.`, { errors: fields });
  };
}

function newAjv(coerceTypes: false | "array") {
  const ajv = new Ajv({
    allErrors: true,
    discriminator: true,
    coerceTypes,
    removeAdditional: false,
    useDefaults: true,
    strict: true,
  });
  // Text that has no UTF-8 form (a lone surrogate) could not be stored or indexed as it was sent.
  ajv.addFormat("text", { type: "string", validate: (value: string) => value.isWellFormed() && !value.includes("\0") });
  return ajv;
}

function fieldError(error: FastifySchemaValidationError, part: string): FieldError {
  const path = error.instancePath.split("/").slice(1).map(unescapePointer);
  const { params } = error;
  if (error.keyword === "additionalProperties") {
    return { field: fieldName([...path, String(params.additionalProperty)], part), description: "is not known" };
  }
  if (error.keyword === "required") {
    return { field: fieldName([...path, String(params.missingProperty)], part), description: "is required" };
  }
  if (error.keyword === "format" && params.format === "text") {
    return { field: fieldName(path, part), description: "must be Unicode text without NUL" };
  }
  return { field: fieldName(path, part), description: error.message ?? "is not valid" };
}

function fieldName(path: string[], part: string): string {
  if (path.length === 0) return part;
  return path.map((name, index) => (/^\d+$/.test(name) ? `[${name}]` : `${index > 0 ? "." : ""}${name}`)).join("");
}

function unescapePointer(token: string): string {
  return token.replaceAll("~1", "/").replaceAll("~0", "~");
}
