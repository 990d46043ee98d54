// What a feature of channels says about itself: its namespaces with their hooks, and its methods. A feature is a file
// that calls defineNamespace and defineMethods, and a line in app.ts; nothing else knows what it does.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ChannelKind, Decision, type HelloSchema, type Namespace, NamespaceSchema } from "@hybrid/contracts/channels";
import type { Static, TSchema } from "typebox";
import type { RequestContext } from "../context.ts";
import { checker } from "../validation.ts";

/** Whose doing it is, as the gateway verified it. `session` is empty for a request over plain HTTP. */
export type Actor = { session: string; subject: string; kind: "user" | "service" | "anonymous"; scope: string };

/** What accompanies an ask. The signal says that nobody waits for the answer any more. */
export type HookContext = RequestContext & {
  actor: Actor;
  signal: AbortSignal;
  /** Asked before, and perhaps carried out. */
  again: boolean;
};

/** `chat:lobby` is the channel `lobby` of the namespace `chat`. */
export type Channel = { name: string; path: string };

/** What a subscriber is told, and what the others are told of it. */
export type Subscribed = { data?: unknown; member?: unknown; readOnly?: boolean };

/** A publication's key, and for `latest` the key whose value it is. Both may be empty. */
export type PublishKeys = { key: string; latestKey: string };

/** What becomes of a publication: `publish` instead of what was sent, `data` for who sent it. */
export type PublishDecision = {
  publish?: unknown;
  silent?: boolean;
  data?: unknown;
  /** Its key was there before. Only silent keeps it from being published again. */
  duplicate?: boolean;
  latestKey?: string;
};

type MaybePromise<T> = T | Promise<T>;
type SubscribeHook = (context: HookContext, channel: Channel, data: unknown) => MaybePromise<Subscribed | undefined>;
type PublishHook<M> = (
  context: HookContext,
  channel: Channel,
  data: M,
  keys: PublishKeys,
) => MaybePromise<PublishDecision | undefined>;

type Common = {
  name: string;
  /** live: nothing is kept. stream: a history. latest: the latest value of each key. */
  kind: "live" | "stream" | "latest";
  /** Publications (stream) or keys (latest) that the gateway keeps; its default where absent. */
  history?: number;
  historySeconds?: number;
  /** Whether subscribers see who is there. */
  presence?: boolean;
  /** Publications per second of one connection. */
  rate?: number;
  /** Who may subscribe: everybody, nobody, or whom the hook does not refuse by throwing a Problem. */
  subscribe: "allow" | "deny" | SubscribeHook;
  /** Called when a session left a channel; perhaps twice. */
  left?: (context: HookContext, channel: Channel) => MaybePromise<void>;
};

type Definition<M extends TSchema> = Common & {
  /** What may be published; checked before the hook. */
  message?: M;
  publish: "deny" | PublishHook<Static<M>>;
};

/** A namespace as the link serves it. */
export type NamespaceDefinition = Common & {
  publish: "deny" | PublishHook<unknown>;
  check: ((data: unknown) => void) | undefined;
};

/** Names the channels that begin with a word, and says who decides what about them. */
export function defineNamespace<M extends TSchema>(definition: Definition<M>): NamespaceDefinition {
  if (!/^[a-z0-9-]{1,32}$/.test(definition.name)) {
    throw new Error(`namespace ${definition.name}: allowed are 1 to 32 small letters, digits and -`);
  }
  const { message, publish, ...common } = definition;
  const check = message && checker(message, "publication");
  return { ...common, publish: publish as NamespaceDefinition["publish"], check };
}

/** One method: its arguments and what answers it. */
export type Method = { check: (value: unknown) => void; answer: (context: HookContext, args: unknown) => unknown };

/** A method whose arguments fit the schema. What it gives, or its promise, goes to the caller as JSON. */
export function method<S extends TSchema>(
  args: S,
  answer: (context: HookContext, args: Static<S>) => MaybePromise<unknown>,
): Method {
  return { check: checker(args, "arguments"), answer: answer as Method["answer"] };
}

export type Methods = { prefix: string; methods: Record<string, Method> };

/** Methods that clients call as prefix.name. */
export function defineMethods(prefix: string, methods: Record<string, Method>): Methods {
  return { prefix, methods };
}

/** What a feature brings. */
export type Feature = { namespaces?: NamespaceDefinition[]; methods?: Methods[] };

/** All features' namespaces and methods. */
export class Registry {
  readonly #namespaces = new Map<string, NamespaceDefinition>();
  readonly #methods = new Map<string, Method>();
  readonly #prefixes = new Set<string>();

  add({ namespaces = [], methods = [] }: Feature) {
    for (const namespace of namespaces) {
      if (this.#namespaces.has(namespace.name)) throw new Error(`namespace ${namespace.name} is defined twice`);
      this.#namespaces.set(namespace.name, namespace);
    }
    for (const { prefix, methods: named } of methods) {
      this.#prefixes.add(prefix);
      for (const [name, one] of Object.entries(named)) {
        if (this.#methods.has(`${prefix}.${name}`)) throw new Error(`method ${prefix}.${name} is defined twice`);
        this.#methods.set(`${prefix}.${name}`, one);
      }
    }
  }

  method(name: string): Method | undefined {
    return this.#methods.get(name);
  }

  get methodNames(): string[] {
    return [...this.#methods.keys()];
  }

  /** The namespace of a channel, and the channel in it. */
  find(name: string): { namespace: NamespaceDefinition | undefined; channel: Channel } {
    const colon = name.indexOf(":");
    const namespace = this.#namespaces.get(name.slice(0, Math.max(0, colon)));
    return { namespace, channel: { name, path: name.slice(colon + 1) } };
  }

  hello(instance: string): MessageInitShape<typeof HelloSchema> {
    const namespaces = [...this.#namespaces.values()].map(announce);
    return { version: 1, instance, namespaces, methods: [...this.#prefixes], connects: false };
  }
}

const KINDS = { live: ChannelKind.LIVE, stream: ChannelKind.STREAM, latest: ChannelKind.LATEST };
const DECISIONS = { allow: Decision.ALLOW, deny: Decision.DENY };

function announce(one: NamespaceDefinition): Namespace {
  const decision = (hook: unknown) => (typeof hook === "string" ? DECISIONS[hook as "allow"] : Decision.ASK);
  return create(NamespaceSchema, {
    name: one.name,
    kind: KINDS[one.kind],
    history: one.history ?? 0,
    historySeconds: one.historySeconds ?? 0,
    presence: one.presence ?? false,
    subscribe: decision(one.subscribe),
    publish: decision(one.publish),
    tellLeft: one.left !== undefined,
    rate: one.rate ?? 0,
  });
}

/** What of any text a channel's name can hold; two texts never give the same. */
export function channelPart(text: string): string {
  return /^[A-Za-z0-9_.-]+$/.test(text) ? text : `~${Buffer.from(text).toString("base64url")}`;
}
