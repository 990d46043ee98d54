"""OpenAIService: models, embeddings and chat completions as OpenAI's clients ask for them."""

import asyncio
import base64
import contextlib
import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from google.api import httpbody_pb2
from hybrid.ai.v1 import openai_service_pb2 as pb
from hybrid.ai.v1 import openai_service_pb2_grpc

from hybrid_ai.errors import NotFound, PublicError
from hybrid_ai.models.embedder import DIMENSIONS, MODEL_NAME
from hybrid_ai.models.language_model import Usage
from hybrid_ai.services.edge import current_call
from hybrid_ai.services.openai_errors import document, shaped
from hybrid_ai.services.openai_requests import ChatRequest, EmbeddingsRequest, chat_request, embeddings_request
from hybrid_ai.serving.embedding import Embedded, EmbeddingModel
from hybrid_ai.serving.fallback import Begun, begin
from hybrid_ai.serving.generation import Generator

T = TypeVar("T")
_JSON, _EVENTS = "application/json", "text/event-stream"
SMALL, UPSTREAM, FALLBACK = "small-local", "upstream", "fallback-small-local"
# Above this many embeddings the answer is built in a thread.
_BUILD_INLINE = 16


@dataclass(frozen=True)
class Writers:
    """Who may write: the model here, configured upstreams, and whether the one stands in for the others."""

    local: Generator
    upstreams: Sequence[Generator]
    fallback: bool

    def of(self, model: str) -> list[Generator]:
        """Who writes for a model's name, in order: every upstream that has it, then the model here.

        Raises NotFound.
        """
        if found := [upstream for upstream in self.upstreams if upstream.model == model]:
            return [*found, self.local] if self.fallback else found
        if model == self.local.model:
            return [self.local]
        raise NotFound(f"The model {model!r} does not exist here; GET /v1/models lists those that do.")


class OpenAIService(openai_service_pb2_grpc.OpenAIServiceServicer):
    """Implements hybrid.ai.v1.OpenAIService."""

    def __init__(self, embedding: EmbeddingModel, writers: Writers) -> None:
        self._embedding = embedding
        self._writers = writers

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(content=_json({"object": "list", "data": self._models()}))

    async def GetModel(self, request: pb.GetModelRequest, context: Any) -> pb.GetModelResponse:
        found = next((model for model in self._models() if model["id"] == request.model), None)
        if found is None:
            raise shaped(NotFound(f"The model {request.model!r} does not exist here."))
        return pb.GetModelResponse(content=_json(found))

    async def CreateEmbeddings(self, request: pb.CreateEmbeddingsRequest, context: Any) -> pb.CreateEmbeddingsResponse:
        return await _shaping(self._embed(request.content.data))

    async def CreateChatCompletion(
        self, request: pb.CreateChatCompletionRequest, context: Any
    ) -> AsyncIterator[pb.CreateChatCompletionResponse]:
        chat, begun = await _shaping(self._begin(request.content.data))
        answer = _Answer(chat, begun)
        async with contextlib.aclosing(begun):
            if not chat.stream:
                whole = await _shaping(answer.whole())
                yield pb.CreateChatCompletionResponse(content=_json(whole))
                return
            async with contextlib.aclosing(answer.events()) as events:
                async for event in events:
                    content = httpbody_pb2.HttpBody(content_type=_EVENTS, data=event)
                    yield pb.CreateChatCompletionResponse(content=content)

    def _models(self) -> list[dict[str, Any]]:
        owners = {MODEL_NAME: "local", self._writers.local.model: SMALL}
        owners |= {upstream.model: UPSTREAM for upstream in self._writers.upstreams}
        return [{"id": name, "object": "model", "created": 0, "owned_by": owner} for name, owner in owners.items()]

    async def _begin(self, data: bytes) -> tuple[ChatRequest, Begun]:
        chat = chat_request(data)
        return chat, await begin(self._writers.of(chat.model), chat.generation)

    async def _embed(self, data: bytes) -> pb.CreateEmbeddingsResponse:
        request = embeddings_request(data)
        if request.model != MODEL_NAME:
            raise NotFound(f"The model {request.model!r} does not exist here, or does not embed; {MODEL_NAME} does.")
        embedded = await self._embedding.embed(request.texts)
        call = current_call()
        call.add_timing("queue", embedded.timing.queue)
        call.add_timing("inference", embedded.timing.inference)
        if len(request.texts) <= _BUILD_INLINE:
            return _embeddings(request, embedded)
        return await asyncio.to_thread(_embeddings, request, embedded)


class _Answer:
    """A chat completion as JSON: whole, or as events."""

    def __init__(self, request: ChatRequest, begun: Begun) -> None:
        self._request = request
        self._begun = begun
        local = begun.writer.notice != ""
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": begun.writer.model,
            "system_fingerprint": FALLBACK if begun.fallback else SMALL if local else UPSTREAM,
        }

    async def whole(self) -> dict[str, Any]:
        texts, usage = list[str](), Usage("stop", 0, 0)
        async for piece in self._begun:
            if isinstance(piece, Usage):
                usage = piece
            else:
                texts.append(piece)
        message = {"role": "assistant", "content": "".join(texts), "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": usage.finish}
        return self._head | {"object": "chat.completion", "choices": [choice], "usage": _usage(usage)}

    async def events(self) -> AsyncGenerator[bytes, None]:
        """What fails on the way is an event, too, and then the stream breaks off."""
        try:
            yield self._chunk({"role": "assistant", "content": ""})
            usage = Usage("stop", 0, 0)
            async for piece in self._begun:
                if isinstance(piece, Usage):
                    usage = piece
                else:
                    yield self._chunk({"content": piece})
            yield self._chunk({}, usage.finish)
            if self._request.include_usage:
                yield _event(self._head | {"object": "chat.completion.chunk", "choices": [], "usage": _usage(usage)})
            yield b"data: [DONE]\n\n"
        except PublicError as error:
            yield b"data: " + document(error) + b"\n\n"
            raise

    def _chunk(self, delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk = self._head | {"object": "chat.completion.chunk", "choices": [choice]}
        return _event(chunk | {"usage": None} if self._request.include_usage else chunk)


async def _shaping(work: Awaitable[T]) -> T:
    """Gives errors OpenAI's form."""
    try:
        return await work
    except Exception as error:
        raise shaped(error) from error


def _embeddings(request: EmbeddingsRequest, embedded: Embedded) -> pb.CreateEmbeddingsResponse:
    vectors = embedded.vectors
    if request.dimensions < DIMENSIONS:
        vectors = vectors[:, : request.dimensions]
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    if request.base64:
        values: list[Any] = [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]
    else:
        values = vectors.tolist()
    data = [{"object": "embedding", "index": index, "embedding": value} for index, value in enumerate(values)]
    tokens = sum(len(encoding.ids) for encoding in embedded.encodings)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    content = _json({"object": "list", "data": data, "model": MODEL_NAME, "usage": usage})
    return pb.CreateEmbeddingsResponse(content=content)


def _usage(usage: Usage) -> dict[str, int]:
    total = usage.prompt_tokens + usage.completion_tokens
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": total,
    }


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def _json(value: dict[str, Any]) -> httpbody_pb2.HttpBody:
    return httpbody_pb2.HttpBody(content_type=_JSON, data=json.dumps(value, ensure_ascii=False).encode())
