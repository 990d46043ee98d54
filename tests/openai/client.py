"""OpenAI's own client for Python against a running stack: client.py BASE_URL TOKEN TOKEN_WITHOUT_SCOPES.

Prints a line of JSON for each case; the last line is the verdict.
"""

import json
import math
import sys
import traceback

import openai

BASE, KEY, WEAK = sys.argv[1:4]
EMBEDDER, CHAT = "all-MiniLM-L6-v2", "SmolLM2-135M-Instruct"
client = openai.OpenAI(base_url=BASE, api_key=KEY, max_retries=0, timeout=60)
HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello in one sentence."}]


def models():
    assert {model.id for model in client.models.list()} >= {EMBEDDER, CHAT}
    assert client.models.retrieve(CHAT).owned_by == "small-local"
    error = fails(openai.NotFoundError, lambda: client.models.retrieve("gpt-none"))
    assert (error.code, error.type, error.body["param"]) == ("model_not_found", "invalid_request_error", None)


def embeddings():
    texts = ["A cat sleeps.", "A kitten naps.", "Stock prices fell."]
    answer = client.embeddings.create(model=EMBEDDER, input=texts)  # base64 unless told otherwise
    vectors = [item.embedding for item in answer.data]
    assert [item.index for item in answer.data] == [0, 1, 2] and answer.usage.total_tokens > 10
    assert all(len(vector) == 384 and abs(math.hypot(*vector) - 1) < 1e-3 for vector in vectors)
    assert dot(vectors[0], vectors[1]) > dot(vectors[0], vectors[2]) + 0.2
    floats = client.embeddings.create(model=EMBEDDER, input=texts[0], encoding_format="float").data[0].embedding
    assert max(abs(a - b) for a, b in zip(floats, vectors[0], strict=True)) < 1e-6
    short = client.embeddings.create(model=EMBEDDER, input=texts[0], dimensions=64).data[0].embedding
    assert len(short) == 64 and abs(math.hypot(*short) - 1) < 1e-3


def embeddings_refused():
    error = fails(openai.BadRequestError, lambda: client.embeddings.create(model=EMBEDDER, input=[[1, 2]]))
    assert (error.param, error.type) == ("input", "invalid_request_error")
    fails(openai.BadRequestError, lambda: client.embeddings.create(model=EMBEDDER, input=""))
    fails(openai.NotFoundError, lambda: client.embeddings.create(model="text-embedding-3-small", input="x"))


def completion():
    answer = client.chat.completions.create(model=CHAT, messages=HELLO, max_completion_tokens=24, seed=1)
    (choice,) = answer.choices
    assert choice.message.role == "assistant" and choice.message.content.strip()
    assert choice.finish_reason in ("stop", "length") and answer.object == "chat.completion"
    assert answer.model == CHAT and answer.system_fingerprint == "small-local"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    again = client.chat.completions.create(model=CHAT, messages=HELLO, max_tokens=24, seed=1)
    assert again.choices[0].message.content == choice.message.content, "the same seed, the same text"


def stream():
    whole = client.chat.completions.create(model=CHAT, messages=HELLO, max_tokens=24, seed=2)
    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(
            model=CHAT, messages=HELLO, max_tokens=24, seed=2, stream=True, stream_options=options
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content and len(chunks) > 5
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] is not None
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1
    plain = list(client.chat.completions.create(model=CHAT, messages=HELLO, max_tokens=3, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in plain)


def stop():
    ask = [{"role": "user", "content": "Count: one, two, three, four, five."}]
    free = client.chat.completions.create(model=CHAT, messages=ask, max_tokens=40, temperature=0, seed=1)
    text = free.choices[0].message.content
    word = text.split()[2]
    stopped = client.chat.completions.create(
        model=CHAT, messages=ask, max_tokens=40, temperature=0, seed=1, stop=[word]
    )
    assert stopped.choices[0].message.content == text.split(word)[0], (text, stopped.choices[0])
    assert stopped.choices[0].finish_reason == "stop"


def completion_refused():
    def ask(**more):
        return client.chat.completions.create(**{"model": CHAT, "messages": HELLO, "max_tokens": 1} | more)

    error = fails(openai.BadRequestError, lambda: ask(temperature=3))
    assert (error.param, error.code) == ("temperature", "invalid_value") and "0 to 2" in error.message
    assert fails(openai.BadRequestError, lambda: ask(stream=True, messages=[])).param == "messages"
    assert fails(openai.BadRequestError, lambda: ask(n=2)).code == "unsupported_parameter"
    assert fails(openai.NotFoundError, lambda: ask(model="gpt-none")).code == "model_not_found"
    fails(openai.BadRequestError, lambda: ask(messages=[{"role": "user", "content": "word " * 3000}]))


def access():
    unknown = openai.OpenAI(base_url=BASE, api_key="nobody", max_retries=0)
    fails(openai.AuthenticationError, unknown.models.list)
    weak = openai.OpenAI(base_url=BASE, api_key=WEAK, max_retries=0)
    fails(openai.PermissionDeniedError, lambda: weak.embeddings.create(model=EMBEDDER, input="x"))


def leaving():
    with client.chat.completions.create(model=CHAT, messages=HELLO, max_tokens=1024, stream=True) as chunks:
        next(iter(chunks))


def dot(first, second):
    return sum(a * b for a, b in zip(first, second, strict=True))


def fails(kind, call):
    try:
        result = call()
        list(result)
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was expected")


failed = 0
cases = (models, embeddings, embeddings_refused, completion, stream, stop, completion_refused, access, leaving)
for case in cases:
    try:
        case()
        print(json.dumps({"name": case.__name__}))
    except Exception:
        failed += 1
        print(json.dumps({"name": case.__name__, "error": traceback.format_exc()}))
sys.exit(1 if failed else 0)
