// What is recommended to a person, pushed as they click: picks:<subject>, for that person alone.
import type { Channels } from "../channels/channels.ts";
import { channelPart, defineNamespace, type Feature } from "../channels/registry.ts";
import type { RequestContext } from "../context.ts";
import { requireUser } from "../identity.ts";
import { Problem } from "../problems.ts";
import type { Recommendations } from "./recommendations.ts";

const LIMIT = 10;

/** The one key of a person's channel. */
export const FILMS = "films";

export function picksFeature(): Feature {
  const picks = defineNamespace({
    name: "picks",
    kind: "latest",
    history: 1,
    historySeconds: 86_400,
    subscribe: async ({ actor }, { path }) => {
      const own = channelPart(requireUser(actor).subject);
      if (path !== own) throw new Problem("permission_denied", `These picks are another's; yours are picks:${own}.`);
      return undefined;
    },
    publish: "deny",
  });
  return { namespaces: [picks] };
}

/** Pushes fresh recommendations after a click. The click does not wait for them. */
export class Picks {
  readonly #recommendations: Recommendations;
  readonly #channels: Pick<Channels, "tell">;
  /** People whose picks are on their way, and whether they clicked again meanwhile. */
  readonly #running = new Map<string, boolean>();

  constructor(recommendations: Recommendations, channels: Pick<Channels, "tell">) {
    this.#recommendations = recommendations;
    this.#channels = channels;
  }

  clicked(subject: string, context: RequestContext) {
    if (this.#running.has(subject)) return void this.#running.set(subject, true);
    this.#running.set(subject, false);
    void this.#push(subject, context);
  }

  async #push(subject: string, context: RequestContext) {
    // The click's own deadline is its own.
    const data = await this.#recommendations.forPerson({ ...context, deadline: undefined }, LIMIT);
    // Missing ones would take the place of those that are shown.
    if (data.status === "fresh") {
      this.#channels.tell({ channel: `picks:${channelPart(subject)}`, latestKey: FILMS, data });
    }
    const again = this.#running.get(subject);
    this.#running.delete(subject);
    if (again) this.clicked(subject, context);
  }
}
