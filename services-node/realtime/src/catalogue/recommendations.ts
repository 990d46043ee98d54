// Recommendations for a person, from Python, within a bounded time: a page is never held up by
// them, and says when they are missing. Clicks are recorded there, too; they cannot be left out.
import { RecommendationReason } from "@hybrid/contracts";
import { type AiClient, statusName } from "../ai/client.ts";
import { deadlineWithin, type RequestContext } from "../context.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import { Problem } from "../problems.ts";
import type { InteractionKind, Recommended } from "./schemas.ts";

type Dependencies = {
  ai: Pick<AiClient, "recommend" | "recordInteraction">;
  timeoutMs: number;
  log: Log;
  metrics: Metrics;
};

const KINDS = { click: 1, like: 2, dismiss: 3 } as const satisfies Record<InteractionKind, number>;
const REASONS: Partial<Record<RecommendationReason, string>> = {
  [RecommendationReason.LIKED_TOGETHER]: "liked_together",
  [RecommendationReason.SIMILAR_CONTENT]: "similar_content",
  [RecommendationReason.POPULAR]: "popular",
};
/** What Python says where the caller is to blame, as problems of ours. */
const REFUSALS = new Set(["INVALID_ARGUMENT", "NOT_FOUND"]);

export class Recommendations {
  readonly #deps: Dependencies;

  constructor(deps: Dependencies) {
    this.#deps = deps;
  }

  /** Fresh recommendations, or why there are none. Never fails, and never takes longer than its bound. */
  async forPerson(context: RequestContext, limit: number): Promise<Recommended> {
    const { ai, metrics, timeoutMs, log } = this.#deps;
    const deadline = deadlineWithin(context, timeoutMs);
    try {
      const answer = await ai.recommend({ limit }, { ...context, deadline });
      metrics.catalogueFresh.inc();
      const items = answer.recommendations.map(({ item, reason, becauseItemId }) => ({
        id: item!.id,
        title: item!.title,
        reason: REASONS[reason] ?? "popular",
        because: becauseItemId || null,
      }));
      return { status: "fresh", based_on: answer.basedOn, items };
    } catch (error) {
      const reason = statusName(error) === "DEADLINE_EXCEEDED" ? "too_late" : "unavailable";
      metrics.catalogueMissing.inc({ reason });
      log.debug({ status: statusName(error) }, "no recommendations");
      return { status: "missing", reason, items: [] };
    }
  }

  /** Records what a person did; resolves when Python has it durably. */
  async record(id: string, kind: InteractionKind, key: string, context: RequestContext) {
    try {
      const { repeatedKey } = await this.#deps.ai.recordInteraction({ key, itemId: id, kind: KINDS[kind] }, context);
      return { key, repeated: repeatedKey };
    } catch (error) {
      const status = statusName(error);
      if (status === "UNKNOWN") throw error;
      if (REFUSALS.has(status)) throw new Problem("not_found", "The recommender does not know this film.");
      throw new Problem("unavailable", "The click could not be recorded now; send it again, with the same key.");
    }
  }
}
