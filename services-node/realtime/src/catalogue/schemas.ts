// The catalogue API's shapes. One source for validation, types and the OpenAPI document.
import { type Static, Type } from "typebox";

const Year = Type.Unsafe<number | null>({ type: ["integer", "null"], description: "null: not known." });
const Because = Type.Unsafe<string | null>({
  type: ["string", "null"],
  description: "The film that speaks most for this one.",
});

export const Film = Type.Object({
  id: Type.String(),
  title: Type.String(),
  year: Year,
  genres: Type.Array(Type.String()),
  likes: Type.Integer({ description: "How many people liked it in the data that the catalogue comes from." }),
});

export const Recommended = Type.Object(
  {
    status: Type.Unsafe<"fresh" | "missing">({ type: "string", enum: ["fresh", "missing"] }),
    reason: Type.Optional(
      Type.Unsafe<"too_late" | "unavailable">({
        type: "string",
        enum: ["too_late", "unavailable"],
        description: "Why they are missing.",
      }),
    ),
    based_on: Type.Optional(Type.Integer({ description: "How many of your films they rest on; 0: on popularity." })),
    items: Type.Array(
      Type.Object({
        id: Type.String(),
        title: Type.String(),
        reason: Type.String({ description: "liked_together, similar_content or popular." }),
        because: Because,
      }),
    ),
  },
  { description: "For you, from everything that was recorded of you so far." },
);

export const CataloguePage = Type.Object({
  items: Type.Array(Film),
  total: Type.Integer({ description: "How many films there are on all pages together." }),
  next_cursor: Type.Unsafe<string | null>({ type: ["string", "null"], description: "null on the last page." }),
  recommendations: Recommended,
});

export const CatalogueQuery = Type.Object(
  {
    query: Type.String({
      maxLength: 256,
      default: "",
      format: "text",
      description: "Words of the title, in any case.",
    }),
    genre: Type.Optional(Type.String({ maxLength: 64, description: "For example Comedy." })),
    limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }),
    cursor: Type.Optional(
      Type.String({ maxLength: 9, pattern: "^[0-9]+$", description: "next_cursor of the page before." }),
    ),
    recommend: Type.Integer({ minimum: 1, maximum: 50, default: 5, description: "How many films to recommend." }),
  },
  { additionalProperties: false },
);

export const FilmPath = Type.Object({ id: Type.String({ maxLength: 64 }) });
export const FilmInteraction = Type.Object(
  {
    kind: Type.Unsafe<"click" | "like" | "dismiss">({ type: "string", enum: ["click", "like", "dismiss"] }),
    key: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 64,
        format: "text",
        description: "Names this interaction, so that it counts once however often it is sent.",
      }),
    ),
  },
  { additionalProperties: false },
);
export const Recorded = Type.Object({
  key: Type.String(),
  repeated: Type.Boolean({ description: "It had been recorded before; nothing was changed." }),
});

export type InteractionKind = Static<typeof FilmInteraction>["kind"];
export type Recommended = Static<typeof Recommended>;
