// Every method that clients may call over a channels connection, for those who have none: POST /api/calls/<method>.
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { Type } from "typebox";
import { Problem } from "../problems.ts";
import type { HookContext, Registry } from "./registry.ts";

const CallPath = Type.Object({ method: Type.String({ maxLength: 64, description: "For example chat.rooms." }) });
const Arguments = Type.Object({}, { additionalProperties: true, description: "What the method takes." });

export const callRoutes: FastifyPluginAsyncTypebox<{ registry: Registry }> = async (app, { registry }) => {
  app.post(
    "/api/calls/:method",
    {
      schema: {
        tags: ["channels"],
        summary: "Call a method of channels without a channels connection",
        description: "The same methods, arguments and answers as over a connection.",
        params: CallPath,
        body: Arguments,
        response: { 200: Type.Unsafe<unknown>({ description: "What the method answers." }) },
      },
    },
    async (request, reply) => {
      const one = registry.method(request.params.method);
      if (!one) {
        const known = registry.methodNames.join(", ");
        throw new Problem("not_found", `There is no method ${request.params.method}; there are ${known}.`);
      }
      one.check(request.body);
      const control = new AbortController();
      reply.raw.once("close", () => control.abort());
      const actor = { session: "", ...request.identity, scope: "" };
      const context: HookContext = { ...request.requestContext, actor, signal: control.signal, again: false };
      const answer = (await one.answer(context, request.body)) ?? null;
      return reply.type("application/json; charset=utf-8").send(JSON.stringify(answer));
    },
  );
};
