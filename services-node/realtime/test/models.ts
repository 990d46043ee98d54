// Python's models as the tests have them: the real services' protocol, with answers that a test can foresee or change.
import type * as grpc from "@grpc/grpc-js";
import { AssistantService, ForecastService, TextService } from "@hybrid/contracts";
import { addService } from "@hybrid/contracts/grpc";

export type Models = ReturnType<typeof models>;

/** Judges words by a list, answers from a sentence, chats word by word, and expects what came last. */
export function models() {
  const calls: { method: string; request: any; metadata: grpc.Metadata; cancelled: boolean; ended: boolean }[] = [];
  const behaviour = {
    /** Waits, or throws a status, before a call is answered. */
    before: async (_method: string): Promise<void> => {},
    score: (text: string) => (/\bidiot\b/.test(text) ? 0.95 : /\bdarn\b/.test(text) ? 0.6 : 0.02),
    found: (question: string) => /gateway/i.test(question),
    words: (question: string) => `I was asked: ${question}`.split(" "),
    /** Between two words of a chat. */
    pace: async (): Promise<void> => {},
  };
  const begin = async (method: string, request: any, call: any) => {
    const one = { method, request, metadata: call.metadata as grpc.Metadata, cancelled: false, ended: false };
    call.on("cancelled", () => (one.cancelled = true));
    calls.push(one);
    await behaviour.before(method);
    return one;
  };

  const serve = (server: grpc.Server) => {
    addService(server, TextService, {
      moderate: async (request, call) => {
        await begin("moderate", request, call);
        const moderations = request.texts.map((text) => {
          const score = behaviour.score(text);
          return { labels: [{ name: "offensive", score }], flagged: score >= 0.5 };
        });
        return { model: "list", moderations };
      },
    });
    addService(server, AssistantService, {
      answer: async function* (request, call) {
        await begin("answer", request, call);
        const found = behaviour.found(request.question);
        const text = found ? "The gateway is written in Rust." : "Nothing in the documents answers this.";
        const source = { documentId: "docs/README.md", title: "README", uri: "/README.md", passage: text };
        if (found) yield { event: { case: "citation", value: { number: 1, ...source } } };
        yield { event: { case: "delta", value: { text, citations: found ? [1] : [] } } };
        yield { event: { case: "completed", value: { model: "extractive", found, notice: "" } } };
      },
      chat: async function* (request, call) {
        const one = await begin("chat", request, call);
        yield { event: { case: "started", value: { model: "small", notice: "A small model." } } };
        for (const word of behaviour.words(request.messages.at(-1)!.content)) {
          await behaviour.pace();
          if (one.cancelled) return;
          yield { event: { case: "delta", value: { text: `${word} ` } } };
        }
        yield { event: { case: "completed", value: { finishReason: 1, promptTokens: 1, completionTokens: 1 } } };
      },
    });
    addService(server, ForecastService, {
      forecast: async (request, call) => {
        await begin("forecast", request, call);
        const last = request.series!.values.at(-1)!;
        const points = Array.from({ length: request.horizon }, () => ({ value: last, low: last - 1, high: last + 1 }));
        return { model: "last", points };
      },
      detectAnomalies: async function* (requests, call) {
        const one = await begin("detectAnomalies", { values: [] as number[] }, call);
        let before: number | undefined;
        for await (const { value } of requests) {
          one.request.values.push(value);
          const index = BigInt(one.request.values.length - 1);
          const known = index >= 12n && before !== undefined;
          const off = known ? Math.abs(value - before!) / 100 : 0;
          yield { index, verdict: !known ? 1 : off > 4 ? 3 : 2, expected: known ? before! : 0, score: off };
          // What is out of the ordinary is not learnt from.
          if (off <= 4) before = value;
        }
        one.ended = true;
      },
    });
  };
  return { calls, behaviour, serve, of: (method: string) => calls.filter((call) => call.method === method) };
}
