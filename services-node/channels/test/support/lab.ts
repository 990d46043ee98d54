// A client on a model of the gateway, in virtual time.
import type { ClientOptions } from "../../src/client.ts";
import { ChannelsClient, type Received, type State } from "../../src/index.ts";
import { VirtualClock } from "./clock.ts";
import { HubModel } from "./hub.ts";

export function lab(options: Partial<ClientOptions> & { seed?: number } = {}) {
  const { seed, ...rest } = options;
  const clock = new VirtualClock(seed);
  const hub = new HubModel(clock);
  const client = new ChannelsClient({ url: "ws://model", clock, dial: hub.dial, ...rest });
  const states: { state: State; retryInMs?: number }[] = [];
  const problems: string[] = [];
  client.on("state", (event) => states.push(event));
  client.on("problem", (error) => problems.push(error.code));
  return { clock, hub, client, states, problems, advance: (ms: number) => clock.advance(ms) };
}

/** What a channel delivers, in order: data, or what happened. */
export function follow(client: ChannelsClient, name: string) {
  const channel = client.channel<unknown>(name);
  const seen: unknown[] = [];
  channel.on("publication", ({ data, removed, latestKey }: Received<unknown>) => {
    seen.push(removed ? `removed ${latestKey}` : data);
  });
  channel.on("reset", () => seen.push("reset"));
  channel.on("unsubscribed", (error) => seen.push(`unsubscribed ${error.code}`));
  return { channel: channel.subscribe(), seen };
}

/** How a promise stands, without waiting for it. */
export function outcome<T>(promise: Promise<T>) {
  const found: { value?: T; error?: any; isDone: boolean } = { isDone: false };
  promise.then(
    (value) => Object.assign(found, { value, isDone: true }),
    (error) => Object.assign(found, { error, isDone: true }),
  );
  return found;
}
