"""What requests in OpenAI's form may hold. What would change the result and is not served is refused, never ignored."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hybrid_ai.models.embedder import DIMENSIONS
from hybrid_ai.models.language_model import Generation
from hybrid_ai.services.assistant import (
    DEFAULT_TEMPERATURE,
    DEFAULT_TOKENS,
    MAX_CHARACTERS,
    MAX_MESSAGES,
    MAX_TEMPERATURE,
    MAX_TOKENS,
)
from hybrid_ai.services.openai_errors import Refused
from hybrid_ai.services.text_checks import MAX_CHARACTERS as MAX_INPUT
from hybrid_ai.services.text_checks import MAX_TEXT, MAX_TEXTS

MAX_STOPS, MAX_STOP = 4, 64
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
# Settings that are known and fine as long as they ask for what happens anyway.
_ONLY: dict[str, tuple[Any, ...]] = {
    "n": (1,), "top_p": (1,), "frequency_penalty": (0,), "presence_penalty": (0,), "logprobs": (False,),
    "tools": ([],), "functions": ([],), "tool_choice": ("none", "auto"), "logit_bias": ({},), "store": (False,),
    "response_format": ({"type": "text"},), "modalities": (["text"],),
}  # fmt: skip
# Settings that change nothing of the text.
_FREE = frozenset(
    "user metadata service_tier safety_identifier prompt_cache_key parallel_tool_calls prompt_cache_retention".split()
)
_CHAT = frozenset("model messages stream stream_options max_tokens max_completion_tokens temperature seed stop".split())
_EMBEDDINGS = frozenset("model input encoding_format dimensions user".split())


@dataclass(frozen=True)
class ChatRequest:
    """A request for a chat completion."""

    model: str
    generation: Generation
    stream: bool
    include_usage: bool


@dataclass(frozen=True)
class EmbeddingsRequest:
    """A request for embeddings."""

    model: str
    texts: list[str]
    base64: bool
    dimensions: int


class _Reader:
    """Reads typed values out of a JSON object. Null is the same as absent."""

    def __init__(self, data: bytes) -> None:
        try:
            body = json.loads(data)
            json.dumps(body, ensure_ascii=False).encode()  # half a surrogate pair is no text
        except (ValueError, RecursionError):
            raise Refused([("body", "is not valid JSON")]) from None
        if not isinstance(body, dict):
            raise Refused([("body", "is not a JSON object")])
        self.body: dict[str, Any] = {name: value for name, value in body.items() if value is not None}

    def take(self, name: str, default: Any, wanted: str, fits: Callable[[Any], bool]) -> Any:
        value = self.body.get(name, default)
        if name in self.body and not fits(value):
            raise Refused([(name, f"{wanted} is allowed")])
        return value

    def integer(self, name: str, default: int | None, low: int, high: int) -> Any:
        return self.take(
            name, default, f"a whole number from {low} to {high}", lambda v: _whole(v) and low <= v <= high
        )

    def flag(self, name: str) -> bool:
        return bool(self.take(name, False, "true or false", lambda v: isinstance(v, bool)))

    def model(self) -> str:
        if not isinstance(self.body.get("model"), str) or not self.body["model"]:
            raise Refused([("model", "a model's name is needed")], "missing_required_parameter")
        return str(self.body["model"])

    def only_known(self, known: frozenset[str]) -> None:
        for name, value in self.body.items():
            if name in _ONLY and known is _CHAT:
                if value not in _ONLY[name]:
                    raise Refused([(name, f"only {json.dumps(_ONLY[name][0])} is supported")], "unsupported_parameter")
            elif name not in known and name not in _FREE:
                raise Refused([(name, "is not a parameter that is known here")], "unknown_parameter")


def chat_request(data: bytes) -> ChatRequest:
    """The request, checked. Raises Refused."""
    read = _Reader(data)
    read.only_known(_CHAT)
    stream = read.flag("stream")
    options = read.take("stream_options", {}, "an object", lambda value: isinstance(value, dict))
    if options and not stream:
        raise Refused([("stream_options", "is only allowed with stream")])
    tokens = read.integer(
        "max_completion_tokens", read.integer("max_tokens", DEFAULT_TOKENS, 1, MAX_TOKENS), 1, MAX_TOKENS
    )
    temperature = read.take(
        "temperature",
        DEFAULT_TEMPERATURE,
        f"a number from 0 to {MAX_TEMPERATURE:g}",
        lambda value: _number(value) and 0 <= value <= MAX_TEMPERATURE,
    )
    seed = read.integer("seed", None, -(2**63), 2**63 - 1)
    generation = Generation(_messages(read), tokens, float(temperature), seed, stop=_stops(read))
    return ChatRequest(read.model(), generation, stream, bool(options.get("include_usage")))


def embeddings_request(data: bytes) -> EmbeddingsRequest:
    """The request, checked. Raises Refused."""
    read = _Reader(data)
    read.only_known(_EMBEDDINGS)
    sent = read.body.get("input")
    texts = [sent] if isinstance(sent, str) else sent
    if not isinstance(texts, list) or not 1 <= len(texts) <= MAX_TEXTS:
        raise Refused([("input", f"a text or 1 to {MAX_TEXTS} of them are needed")])
    for index, text in enumerate(texts):
        if isinstance(text, int | list):
            raise Refused([("input", "has tokens; only text is taken, for models have different tokens")])
        if not isinstance(text, str) or not 1 <= len(text) <= MAX_TEXT:
            raise Refused([(f"input[{index}]", f"a text of 1 to {MAX_TEXT} characters is needed")])
    if (total := sum(map(len, texts))) > MAX_INPUT:
        raise Refused([("input", f"has {total} characters together; at most {MAX_INPUT} are allowed")])
    form = read.take("encoding_format", "float", "float or base64", lambda value: value in ("float", "base64"))
    dimensions = read.integer("dimensions", DIMENSIONS, 1, DIMENSIONS)
    return EmbeddingsRequest(read.model(), texts, form == "base64", dimensions)


def _messages(read: _Reader) -> list[tuple[str, str]]:
    sent = read.body.get("messages")
    if not isinstance(sent, list) or not 1 <= len(sent) <= MAX_MESSAGES:
        raise Refused([("messages", f"1 to {MAX_MESSAGES} messages are needed")])
    messages = [_message(f"messages[{index}]", message) for index, message in enumerate(sent)]
    if (total := sum(len(content) for _, content in messages)) > MAX_CHARACTERS:
        raise Refused([("messages", f"have {total} characters together; at most {MAX_CHARACTERS} are allowed")])
    return messages


def _message(path: str, sent: Any) -> tuple[str, str]:
    if not isinstance(sent, dict) or not isinstance(role := sent.get("role"), str) or role not in _ROLES:
        raise Refused([(f"{path}.role", f"is not one of {', '.join(_ROLES)}")])
    content = sent.get("content")
    if isinstance(content, list):
        parts = [
            part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content
        ]
        if not all(isinstance(part, str) for part in parts):
            raise Refused([(f"{path}.content", "has a part that is not text")])
        content = "".join(part for part in parts if part)
    if not isinstance(content, str) or not content:
        raise Refused([(f"{path}.content", "a text is needed")])
    return _ROLES[role], content


def _stops(read: _Reader) -> tuple[str, ...]:
    sent = read.body.get("stop", [])
    stops = [sent] if isinstance(sent, str) else sent
    fits = isinstance(stops, list) and all(isinstance(stop, str) and 1 <= len(stop) <= MAX_STOP for stop in stops)
    if not fits or len(stops) > MAX_STOPS:
        raise Refused([("stop", f"up to {MAX_STOPS} texts of 1 to {MAX_STOP} characters are allowed")])
    return tuple(stops)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
