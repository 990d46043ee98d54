// Telemetry over plain HTTP: POST /api/telemetry.
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import type { Channels } from "../channels/channels.ts";
import { requireUser } from "../identity.ts";
import { tellPoints } from "./feature.ts";
import { Counts, Telemetry as TelemetryBody } from "./schemas.ts";
import type { Telemetry } from "./telemetry.ts";

type Dependencies = { telemetry: Telemetry; channels: Pick<Channels, "tell"> };

export const telemetryRoutes: FastifyPluginAsyncTypebox<Dependencies> = async (app, { telemetry, channels }) => {
  app.post(
    "/api/telemetry",
    {
      schema: {
        tags: ["telemetry"],
        summary: "Send points of your devices",
        description: "In any order; sent again they count once. Answered when they are on disk.",
        body: TelemetryBody,
        response: { 202: Counts },
      },
    },
    async (request, reply) => {
      const { subject } = requireUser(request.identity);
      const { counts, accepted } = await telemetry.take(request.body.points, subject);
      tellPoints(channels, accepted);
      return reply.code(202).send(counts);
    },
  );
};
