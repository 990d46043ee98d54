"""SearchService: documents in, passages out. What requests may hold is in `search_checks`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from weakref import WeakValueDictionary

from google.protobuf import json_format
from hybrid.ai.v1 import search_service_pb2 as pb
from hybrid.ai.v1 import search_service_pb2_grpc

from hybrid_ai.errors import InvalidArgument
from hybrid_ai.services import search_checks as checks
from hybrid_ai.services.checks import Violations, check_length
from hybrid_ai.services.edge import current_call
from hybrid_ai.services.streams import answer_each
from hybrid_ai.serving.caller import CALLER, Priority
from hybrid_ai.store.access import access_for, access_list
from hybrid_ai.store.database import Document
from hybrid_ai.store.index import DocumentIndex, Mode, Outcome, Query

# Documents of one stream that are embedded at once: while one is stored, the next ones are split and embedded.
_AT_ONCE = 8

_OUTCOMES = {
    Outcome.INDEXED: pb.INDEX_OUTCOME_INDEXED,
    Outcome.STALE: pb.INDEX_OUTCOME_STALE,
    Outcome.DELETED: pb.INDEX_OUTCOME_DELETED,
}
_MODES = {
    pb.SEARCH_MODE_UNSPECIFIED: Mode.HYBRID,
    pb.SEARCH_MODE_HYBRID: Mode.HYBRID,
    pb.SEARCH_MODE_VECTOR: Mode.VECTOR,
    pb.SEARCH_MODE_TEXT: Mode.TEXT,
}


class SearchService(search_service_pb2_grpc.SearchServiceServicer):
    """Implements hybrid.ai.v1.SearchService."""

    def __init__(self, index: DocumentIndex) -> None:
        self._index = index

    async def Index(self, request: pb.IndexRequest, context: Any) -> pb.IndexResponse:
        outcome, revision, passages = await self._index.index(_document(request.document))
        return pb.IndexResponse(outcome=_OUTCOMES[outcome], revision=revision, passages=passages)

    async def IndexMany(
        self, requests: AsyncIterator[pb.IndexManyRequest], context: Any
    ) -> AsyncIterator[pb.IndexManyResponse]:
        """Bulk work: it gives way to interactive calls, and waits for room where the embedder's queue is full."""
        CALLER.set(CALLER.get()._replace(priority=Priority.BULK))
        turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

        async def store(request: pb.IndexManyRequest) -> pb.IndexManyResponse:
            # A lock lets in who came first: the revisions of one document are stored in the order they were sent.
            turn = turns.setdefault(request.document.id, asyncio.Lock())
            async with turn:
                return await self._one_of_many(request)

        async with contextlib.aclosing(answer_each(requests, store, _AT_ONCE)) as answers:
            async for answer in answers:
                yield answer

    async def _one_of_many(self, request: pb.IndexManyRequest) -> pb.IndexManyResponse:
        document = _document(request.document)
        outcome, revision, passages = await self._index.index(document, patient=True)
        return pb.IndexManyResponse(
            document_id=document.key, outcome=_OUTCOMES[outcome], revision=revision, passages=passages
        )

    async def Delete(self, request: pb.DeleteRequest, context: Any) -> pb.DeleteResponse:
        violations: Violations = []
        check_length(violations, "document_id", request.document_id, 1, checks.MAX_KEY)
        if request.revision < 1:
            violations.append(("revision", f"is {request.revision}; at least 1 is needed"))
        if violations:
            raise InvalidArgument(violations)
        return pb.DeleteResponse(deleted=await self._index.delete(request.document_id, request.revision))

    async def Search(self, request: pb.SearchRequest, context: Any) -> pb.SearchResponse:
        checks.check_search(request)
        call = current_call()
        visible_to = list(request.visible_to)
        if call.identity.kind == "service" and not visible_to:
            raise InvalidArgument([("visible_to", "is empty; a service without a user must name at least one subject")])
        query = Query(
            text=request.query,
            access=access_for(call.identity, visible_to),
            limit=request.limit or checks.DEFAULT_LIMIT,
            mode=_MODES[request.mode],
            collections=checks.collections(request.collection, request.collections),
            exclude=request.exclude_document_id,
            filters=tuple(map(checks.condition, request.filters)),
            highlight=True,
        )
        hits = await self._index.search(query)
        call.add_timing("queue", hits.timing.queue)
        call.add_timing("inference", hits.timing.inference)
        response = pb.SearchResponse()
        for found, score in hits.found:
            result = response.results.add(
                document_id=found.document_id,
                revision=found.revision,
                collection=found.collection,
                title=found.title,
                uri=found.uri,
                passage=found.text,
                offset=found.offset,
                score=score,
            )
            for start, end in hits.highlights.get(found.passage, ()):
                result.highlights.add(start=start, end=end)
            if found.metadata:
                json_format.Parse(found.metadata, result.metadata)
        return response


def _document(sent: pb.Document) -> Document:
    """The document, checked. Raises InvalidArgument."""
    metadata = checks.check_document(sent)
    subjects = access_list(sent.owner, sent.readers)
    return Document(
        sent.id, sent.revision, sent.collection, sent.title, sent.text, sent.uri, subjects, metadata=metadata
    )
