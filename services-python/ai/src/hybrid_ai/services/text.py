"""TextService: embeddings, labels, moderation, summaries, and pages."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Any

from hybrid.ai.v1 import text_service_pb2 as pb
from hybrid.ai.v1 import text_service_pb2_grpc

from hybrid_ai.analysis.labels import classify
from hybrid_ai.analysis.summary import summarize
from hybrid_ai.errors import FailedPrecondition, InvalidArgument, TooLarge
from hybrid_ai.models import toxicity
from hybrid_ai.models.embedder import MODEL_NAME
from hybrid_ai.services import text_checks as checks
from hybrid_ai.services.edge import current_call
from hybrid_ai.serving.caller import CALLER, Priority
from hybrid_ai.serving.embedding import Embedded, EmbeddingModel
from hybrid_ai.serving.fetch import Fetched, Fetcher
from hybrid_ai.serving.moderation import ModerationModel
from hybrid_ai.serving.patience import when_there_is_room
from hybrid_ai.serving.pool import ProcessPool, Refused, TooMuch
from hybrid_ai.serving.worker import Timing
from hybrid_ai.store.passages import sentence_spans

if TYPE_CHECKING:
    from hybrid_ai.models.page import Page

FLAGGED_FROM = 0.5
# Above this many embeddings the response is built in a thread: 64 take about 0.3 ms.
_BUILD_INLINE = 64
# Field `values` in protobuf's wire format: its number and type, the length of 384 floats; these follow as they are in
# memory. Handing over each float by itself takes six times as long.
_VALUES = b"\x0a\x80\x0c"
# Above this many characters sentences are found in a thread.
_SPLIT_INLINE = 4096


class TextService(text_service_pb2_grpc.TextServiceServicer):
    """Implements hybrid.ai.v1.TextService. Without a fetcher pages are taken as bytes alone."""

    def __init__(
        self, embedding: EmbeddingModel, moderation: ModerationModel, pages: ProcessPool, fetcher: Fetcher | None
    ) -> None:
        self._embedding = embedding
        self._moderation = moderation
        self._pages = pages
        self._fetcher = fetcher

    async def Embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
        texts = list(request.texts)
        checks.reject(checks.check_texts(texts, checks.MAX_TEXTS))
        embedded = await self._embedding.embed(texts)
        _record(embedded.timing)
        if len(texts) <= _BUILD_INLINE:
            return pb.EmbedResponse(model=MODEL_NAME, embeddings=_embeddings(embedded))
        embeddings = await asyncio.to_thread(_embeddings, embedded)
        return pb.EmbedResponse(model=MODEL_NAME, embeddings=embeddings)

    async def EmbedStream(
        self, requests: AsyncIterator[pb.EmbedStreamRequest], context: Any
    ) -> AsyncIterator[pb.EmbedStreamResponse]:
        CALLER.set(CALLER.get()._replace(priority=Priority.BULK))
        async for request in requests:
            texts = list(request.texts)
            checks.reject(checks.check_texts(texts, checks.MAX_TEXTS))
            embedded = await when_there_is_room(partial(self._embedding.embed, texts))
            embeddings = await asyncio.to_thread(_embeddings, embedded)
            yield pb.EmbedStreamResponse(model=MODEL_NAME, embeddings=embeddings)

    async def Classify(self, request: pb.ClassifyRequest, context: Any) -> pb.ClassifyResponse:
        checks.check_classify(request)
        labels = [label.description or label.name for label in request.labels]
        classified, timing = await classify(self._embedding, list(request.texts), labels)
        _record(timing)
        response = pb.ClassifyResponse(model=MODEL_NAME)
        for fits in classified:
            scores = response.classifications.add().labels
            for fit in fits:
                scores.add(name=request.labels[fit.label].name, score=fit.score, similarity=fit.similarity)
        return response

    async def Moderate(self, request: pb.ModerateRequest, context: Any) -> pb.ModerateResponse:
        checks.reject(checks.check_texts(request.texts, checks.MAX_ANALYZED))
        scores, timing = await self._moderation.score(list(request.texts))
        _record(timing)
        response = pb.ModerateResponse(model=toxicity.MODEL_NAME)
        for score in scores:
            label = pb.ModerationLabel(name=toxicity.LABEL, score=score)
            response.moderations.add(labels=[label], flagged=score >= FLAGGED_FROM)
        return response

    async def Summarize(self, request: pb.SummarizeRequest, context: Any) -> pb.SummarizeResponse:
        checks.check_summarize(request)
        if len(request.text) <= _SPLIT_INLINE:
            sentences = sentence_spans(request.text)
        else:
            sentences = await asyncio.to_thread(sentence_spans, request.text)
        if len(sentences) > checks.MAX_SENTENCES:
            allowed = f"at most {checks.MAX_SENTENCES} are allowed"
            raise InvalidArgument([("text", f"has {len(sentences)} sentences; {allowed}")])
        spans, timing = await summarize(self._embedding, sentences, request.max_sentences or checks.DEFAULT_CHOSEN)
        _record(timing)
        response = pb.SummarizeResponse(model=MODEL_NAME)
        for span in spans:
            response.sentences.add(text=span.text, offset=span.offset, score=span.score)
        return response

    async def Extract(self, request: pb.ExtractRequest, context: Any) -> pb.ExtractResponse:
        checks.check_extract(request)
        source = "url" if request.HasField("url") else "html"
        if source == "url":
            fetched = await self._fetch(request.url)
            base = fetched.url
        else:
            fetched, base = Fetched("", request.html, request.charset), request.base_url
        page = await self._read(source, fetched, base)
        response = pb.ExtractResponse(url=fetched.url, title=page.title, text=page.text, truncated=page.truncated)
        for url, text in page.links:
            response.links.add(url=url, text=text)
        for rows in page.tables:
            response.tables.add(rows=[pb.TableRow(cells=cells) for cells in rows])
        return response

    async def _read(self, source: str, fetched: Fetched, base: str) -> "Page":
        """Reads a page in a process of the pool; what is wrong with it is told of the field that it came by."""
        try:
            page: Page
            page, timing = await self._pages.run(fetched.body, base, fetched.charset)
        except TooMuch as error:
            raise TooLarge([(source, str(error))]) from None
        except Refused as error:
            raise InvalidArgument([(source, str(error))]) from None
        _record(timing)
        return page

    async def _fetch(self, url: str) -> Fetched:
        if self._fetcher is None:
            raise FailedPrecondition(
                "this service does not fetch pages; send the page's bytes", reason="FETCH_DISABLED"
            )
        return await self._fetcher.fetch(url)


def _record(timing: Timing) -> None:
    call = current_call()
    call.add_timing("queue", timing.queue)
    call.add_timing("inference", timing.inference)


def _embeddings(embedded: Embedded) -> list[pb.Embedding]:
    embeddings: list[pb.Embedding] = []
    for vector, encoding in zip(embedded.vectors.astype("<f4", copy=False), embedded.encodings, strict=True):
        embedding = pb.Embedding.FromString(_VALUES + vector.tobytes())
        embedding.tokens, embedding.truncated = len(encoding.ids), encoding.truncated
        embeddings.append(embedding)
    return embeddings
