// One answer of the assistant as it is written: from the documents, with citations, where they hold one; otherwise by the
// chat model, which says what it is. Events of Python in, the state of the answer out.
import type { AiClient } from "../ai/client.ts";
import type { RequestContext } from "../context.ts";
import type { Question } from "./messages.ts";
import type { AnswerState } from "./schemas.ts";

const CITATIONS = 3;
const TOKENS = 200;

export type Written = Pick<AnswerState, "text" | "citations" | "model" | "notice">;

type Call = { context: RequestContext; limitMs: number; signal: AbortSignal };

/** Writes into `written`, and says after every piece that there is more. */
export async function write(
  ai: Pick<AiClient, "answer" | "chat">,
  question: Question,
  written: Written,
  progress: () => void,
  call: Call,
) {
  if (await fromDocuments(ai, question.text, written, progress, call)) return;
  Object.assign(written, { text: "", citations: [] });
  await fromModel(ai, question.text, written, progress, call);
}

async function fromDocuments(
  ai: Pick<AiClient, "answer">,
  question: string,
  written: Written,
  progress: () => void,
  { context, limitMs, signal }: Call,
): Promise<boolean> {
  let found = false;
  for await (const { event } of ai.answer({ question, maxCitations: CITATIONS }, context, limitMs, signal)) {
    if (event.case === "citation") {
      const { number, documentId, title, uri, passage } = event.value;
      written.citations.push({ number, document_id: documentId, title, uri, passage });
    } else if (event.case === "delta") {
      written.text += event.value.text;
      // Without a citation this may be the sentence that says that nothing was found.
      if (written.citations.length > 0) progress();
    } else if (event.case === "completed") {
      found = event.value.found;
      Object.assign(written, { model: event.value.model, notice: event.value.notice });
    }
  }
  return found;
}

async function fromModel(
  ai: Pick<AiClient, "chat">,
  question: string,
  written: Written,
  progress: () => void,
  { context, limitMs, signal }: Call,
) {
  const messages = [{ role: 2, content: question }];
  for await (const { event } of ai.chat({ messages, maxTokens: TOKENS }, context, limitMs, signal)) {
    if (event.case === "started") Object.assign(written, { model: event.value.model, notice: event.value.notice });
    else if (event.case === "delta") {
      written.text += event.value.text;
      progress();
    }
  }
}
