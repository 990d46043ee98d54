// Python's recommendations as the tests have them: a few films, and what is recorded is recommended from.
import type * as grpc from "@grpc/grpc-js";
import type { RecommendService } from "@hybrid/contracts";
import type { Implementation } from "@hybrid/contracts/grpc";
import { decodeJwt } from "jose";

const FILMS = [
  { id: "318", title: "The Shawshank Redemption", year: 1994, genres: ["Crime", "Drama"], likes: 30 },
  { id: "1", title: "Toy Story", year: 1995, genres: ["Animation", "Comedy"], likes: 20 },
  { id: "3114", title: "Toy Story 2", year: 1999, genres: ["Animation", "Comedy"], likes: 10 },
  { id: "77", title: "Untitled", year: 0, genres: [], likes: 0 },
];

/** Python's recommendations: four films in pages of two; recommends what was not touched, and says because of what. */
export function recommender() {
  const recorded: { person: string; key: string; itemId: string; kind: number }[] = [];
  const behaviour = { delay: (): Promise<void> | undefined => undefined, fail: (): object | undefined => undefined };
  const personOf = (metadata: grpc.Metadata) => decodeJwt(String(metadata.get("x-hybrid-on-behalf-of")[0])).sub!;
  const answer = async () => {
    await behaviour.delay();
    const failure = behaviour.fail();
    if (failure) throw failure;
  };
  const service: Implementation<typeof RecommendService> = {
    listItems: async ({ pageToken }) => {
      await answer();
      const start = Number(pageToken || 0);
      const nextPageToken = start + 2 < FILMS.length ? String(start + 2) : "";
      return { items: FILMS.slice(start, start + 2), nextPageToken, totalSize: FILMS.length };
    },
    recommend: async ({ limit }, { metadata }) => {
      await answer();
      const mine = recorded.filter(({ person }) => person === personOf(metadata)).map(({ itemId }) => itemId);
      const items = FILMS.filter(({ id }) => !mine.includes(id)).slice(0, limit);
      const [reason, becauseItemId] = mine.length > 0 ? [1, mine.at(-1)!] : [3, ""];
      const recommendations = items.map((item) => ({ item, score: 1, reason, becauseItemId }));
      return { recommendations, basedOn: mine.length };
    },
    recordInteraction: async function* (requests, { metadata }) {
      for await (const { key, itemId, kind } of requests) {
        await answer();
        const person = personOf(metadata);
        const repeatedKey = recorded.some((one) => one.person === person && one.key === key);
        if (!repeatedKey) recorded.push({ person, key, itemId, kind });
        yield { key, repeatedKey };
      }
    },
    getItem: async () => ({}),
    listSimilarItems: async () => ({}),
  };
  return { recorded, behaviour, service };
}
