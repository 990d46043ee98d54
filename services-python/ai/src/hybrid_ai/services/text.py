"""TextService: embeddings."""

import asyncio
from typing import Any

from hybrid.ai.v1 import text_service_pb2, text_service_pb2_grpc

from hybrid_ai.errors import InvalidArgument
from hybrid_ai.models.embedder import MODEL_NAME
from hybrid_ai.services.edge import current_call
from hybrid_ai.serving.embedding import Embedded, EmbeddingModel

MAX_TEXTS = 256
MAX_TEXT_CHARACTERS = 32_768
# Above this many embeddings the response is built in a thread: 16 take about 0.3 ms.
_BUILD_INLINE = 16


class TextService(text_service_pb2_grpc.TextServiceServicer):
    """Implements hybrid.ai.v1.TextService."""

    def __init__(self, embedding: EmbeddingModel) -> None:
        self._embedding = embedding

    async def Embed(self, request: text_service_pb2.EmbedRequest, context: Any) -> text_service_pb2.EmbedResponse:
        texts = list(request.texts)
        _check(texts)
        embedded = await self._embedding.embed(texts)
        call = current_call()
        call.add_timing("queue", embedded.timing.queue)
        call.add_timing("inference", embedded.timing.inference)
        if len(texts) <= _BUILD_INLINE:
            return _response(embedded)
        return await asyncio.to_thread(_response, embedded)


def _check(texts: list[str]) -> None:
    if not 1 <= len(texts) <= MAX_TEXTS:
        raise InvalidArgument([("texts", f"has {len(texts)} texts; 1 to {MAX_TEXTS} are allowed")])
    violations = [
        (f"texts[{index}]", f"has {len(text)} characters; 1 to {MAX_TEXT_CHARACTERS} are allowed")
        for index, text in enumerate(texts)
        if not 1 <= len(text) <= MAX_TEXT_CHARACTERS
    ]
    if violations:
        raise InvalidArgument(violations)


def _response(embedded: Embedded) -> text_service_pb2.EmbedResponse:
    response = text_service_pb2.EmbedResponse(model=MODEL_NAME)
    for vector, encoding in zip(embedded.vectors.tolist(), embedded.encodings, strict=True):
        response.embeddings.add(values=vector, tokens=len(encoding.ids), truncated=encoding.truncated)
    return response
