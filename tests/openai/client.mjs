// OpenAI's own client for JavaScript against a running stack: client.mjs BASE_URL TOKEN TOKEN_WITHOUT_SCOPES.
// Prints a line of JSON for each case.
import { strict as assert } from "node:assert";
import OpenAI from "openai";

const [baseURL, apiKey, weak] = process.argv.slice(2);
const [embedder, chat] = ["all-MiniLM-L6-v2", "SmolLM2-135M-Instruct"];
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 60_000 });
const messages = [
  { role: "system", content: "Be brief." },
  { role: "user", content: "Say hello in one sentence." },
];
const ask = (more) => client.chat.completions.create({ model: chat, messages, max_tokens: 24, seed: 1, ...more });
const norm = (vector) => Math.hypot(...vector);

const cases = {
  async models() {
    const listed = (await client.models.list()).data.map((model) => model.id);
    assert(listed.includes(embedder) && listed.includes(chat));
    assert.equal((await client.models.retrieve(chat)).owned_by, "small-local");
    await assert.rejects(client.models.retrieve("none"), { status: 404, code: "model_not_found" });
  },

  async embeddings() {
    const { data, usage } = await client.embeddings.create({ model: embedder, input: ["A cat sleeps.", "Prices fell."] });
    assert(data.length === 2 && usage.total_tokens > 5);
    for (const { embedding } of data) assert(embedding.length === 384 && Math.abs(norm(embedding) - 1) < 1e-3);
    const float = { model: embedder, input: "A cat sleeps.", encoding_format: "float", dimensions: 32 };
    const short = (await client.embeddings.create(float)).data[0].embedding;
    assert(short.length === 32 && Math.abs(norm(short) - 1) < 1e-3);
    await assert.rejects(client.embeddings.create({ model: embedder, input: [1, 2] }), OpenAI.BadRequestError);
  },

  async completion() {
    const answer = await ask({});
    assert(answer.choices[0].message.content.trim() && answer.usage.completion_tokens > 0);
    assert.deepEqual([answer.model, answer.system_fingerprint], [chat, "small-local"]);
  },

  async stream() {
    const whole = await ask({});
    let text = "";
    let last;
    for await (const chunk of await ask({ stream: true, stream_options: { include_usage: true } })) {
      text += chunk.choices[0]?.delta?.content ?? "";
      last = chunk;
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.deepEqual(last.usage, whole.usage);
  },

  async "stream helper"() {
    const helper = client.chat.completions.stream({ model: chat, messages, max_tokens: 12, seed: 3 });
    let pieces = 0;
    helper.on("content", () => (pieces += 1));
    const final = await helper.finalChatCompletion();
    assert(pieces > 1 && final.choices[0].message.content.length > 1);
  },

  async refusals() {
    await assert.rejects(ask({ temperature: 3 }), { status: 400, param: "temperature", type: "invalid_request_error" });
    await assert.rejects(ask({ stream: true, messages: [] }), { status: 400, param: "messages" });
    await assert.rejects(ask({ model: "none" }), { status: 404, code: "model_not_found" });
    const unknown = new OpenAI({ baseURL, apiKey: "nobody", maxRetries: 0 });
    await assert.rejects(unknown.models.list(), OpenAI.AuthenticationError);
    const scopeless = new OpenAI({ baseURL, apiKey: weak, maxRetries: 0 });
    await assert.rejects(scopeless.embeddings.create({ model: embedder, input: "x" }), OpenAI.PermissionDeniedError);
  },

  async leaving() {
    const stream = await ask({ stream: true, max_tokens: 1024 });
    for await (const _ of stream) break;
  },
};

for (const [name, run] of Object.entries(cases)) {
  try {
    await run();
    console.log(JSON.stringify({ name }));
  } catch (error) {
    process.exitCode = 1;
    console.log(JSON.stringify({ name, error: `${error?.stack ?? error}` }));
  }
}
