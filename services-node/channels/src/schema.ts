// Types that an application gives the client: what its namespaces carry and what its methods take and answer. Nothing of
// it exists at run time; the application's schemas are checked where the data is decided about, by the application.

/** What a namespace's channels carry. */
export type NamespaceTypes = {
  /** What subscribers receive. */
  publication: unknown;
  /** What may be published; the same as `publication` where it is not said. */
  publish?: unknown;
  /** Member.data in its presence. */
  member?: unknown;
};

/** `{ channels: { chat: { publication: … } }, methods: { "chat.rooms": { request: …, response: … } } }`; either may be absent. */
export type Schema = { channels?: object; methods?: object };

/** The namespaces whose types are known: words before the colon. */
export type NamespaceOf<S> = S extends { channels: infer C } ? keyof C & string : never;

/** A channel's types by its namespace. */
export type TypesOf<S, N> = S extends { channels: infer C extends Record<N & string, NamespaceTypes> }
  ? C[N & string]
  : never;

/** The methods whose types are known. */
export type MethodOf<S> = S extends { methods: infer M } ? keyof M & string : never;

export type RequestOf<S, M> = S extends { methods: infer A extends Record<M & string, { request: unknown }> }
  ? A[M & string]["request"]
  : never;

export type ResponseOf<S, M> = S extends { methods: infer A extends Record<M & string, { response: unknown }> }
  ? A[M & string]["response"]
  : never;

export type Untyped<T> = { publication: T; publish: unknown; member: unknown };

export type Sent<T extends NamespaceTypes> = T extends { publish: infer P } ? P : T["publication"];
export type MemberData<T extends NamespaceTypes> = T extends { member: infer M } ? M : unknown;
