// Checks with a public validator that the gateway's OpenAPI documents are valid: `check-openapi.mjs GATEWAY CONFIG`.
import { execFileSync } from "node:child_process";
import { Validator } from "@seriousme/openapi-schema-validator";

const [gateway, config] = process.argv.slice(2);
const size = 64 * 1024 * 1024;

for (const more of [[], ["--internal"]]) {
  const text = execFileSync(gateway, ["openapi", "--config", config, ...more], { encoding: "utf8", maxBuffer: size });
  const document = JSON.parse(text);
  const operations = Object.values(document.paths).flatMap((item) => Object.values(item));
  const ids = new Set(operations.map((operation) => operation.operationId));
  const validator = new Validator();
  const { valid, errors } = await validator.validate(document);
  const name = ["openapi", ...more].join(" ");
  if (!valid) throw new Error(`${name}: ${JSON.stringify(errors, null, 2)}`);
  if (validator.version !== "3.1") throw new Error(`${name}: is version ${validator.version}, not 3.1`);
  if (ids.size === 0 || ids.size !== operations.length) throw new Error(`${name}: operation ids are not unique`);
  validator.resolveRefs();
  console.log(`${name}: ${operations.length} operations, valid`);
}
