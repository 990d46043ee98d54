"""SearchService: documents in, passages out."""

from typing import Any

from hybrid.ai.v1 import search_service_pb2 as pb
from hybrid.ai.v1 import search_service_pb2_grpc

from hybrid_ai.errors import InvalidArgument
from hybrid_ai.services.checks import MAX_SUBJECT, Violations, check_length, check_subjects
from hybrid_ai.services.edge import current_call
from hybrid_ai.store.access import access_for, access_list
from hybrid_ai.store.database import Document
from hybrid_ai.store.index import DocumentIndex, Mode, Outcome, Query

MAX_KEY, MAX_TITLE, MAX_TEXT, MAX_QUERY = 256, 1024, 1_048_576, 4096
MAX_LIMIT, DEFAULT_LIMIT = 100, 10
MAX_SUBJECTS = 1000
MAX_VISIBLE_TO = 100
MAX_URI = 2048

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
        sent = request.document
        _check_document(sent)
        subjects = access_list(sent.owner, sent.readers)
        document = Document(sent.id, sent.revision, sent.collection, sent.title, sent.text, sent.uri, subjects)
        outcome, revision, passages = await self._index.index(document)
        return pb.IndexResponse(outcome=_OUTCOMES[outcome], revision=revision, passages=passages)

    async def Delete(self, request: pb.DeleteRequest, context: Any) -> pb.DeleteResponse:
        violations: Violations = []
        check_length(violations, "document_id", request.document_id, 1, MAX_KEY)
        if request.revision < 1:
            violations.append(("revision", f"is {request.revision}; at least 1 is needed"))
        if violations:
            raise InvalidArgument(violations)
        return pb.DeleteResponse(deleted=await self._index.delete(request.document_id, request.revision))

    async def Search(self, request: pb.SearchRequest, context: Any) -> pb.SearchResponse:
        _check_search(request)
        call = current_call()
        visible_to = list(request.visible_to)
        if call.identity.kind == "service" and not visible_to:
            raise InvalidArgument([("visible_to", "is empty; a service without a user must name at least one subject")])
        query = Query(
            text=request.query,
            access=access_for(call.identity, visible_to),
            limit=request.limit or DEFAULT_LIMIT,
            mode=_MODES[request.mode],
            collection=request.collection,
            exclude=request.exclude_document_id,
        )
        hits = await self._index.search(query)
        call.add_timing("queue", hits.timing.queue)
        call.add_timing("inference", hits.timing.inference)
        response = pb.SearchResponse()
        for found, score in hits.found:
            response.results.add(
                document_id=found.document_id,
                revision=found.revision,
                collection=found.collection,
                title=found.title,
                uri=found.uri,
                passage=found.text,
                offset=found.offset,
                score=score,
            )
        return response


def _check_document(document: pb.Document) -> None:
    violations: Violations = []
    check_length(violations, "document.id", document.id, 1, MAX_KEY)
    if document.revision < 1:
        violations.append(("document.revision", f"is {document.revision}; at least 1 is needed"))
    check_length(violations, "document.collection", document.collection, 0, MAX_KEY)
    check_length(violations, "document.title", document.title, 0, MAX_TITLE)
    check_length(violations, "document.text", document.text, 0, MAX_TEXT)
    check_length(violations, "document.uri", document.uri, 0, MAX_URI)
    check_length(violations, "document.owner", document.owner, 0, MAX_SUBJECT)
    check_subjects(violations, "document.readers", document.readers, MAX_SUBJECTS)
    if violations:
        raise InvalidArgument(violations)


def _check_search(request: pb.SearchRequest) -> None:
    violations: Violations = []
    check_length(violations, "query", request.query, 1, MAX_QUERY)
    if not 0 <= request.limit <= MAX_LIMIT:
        violations.append(("limit", f"is {request.limit}; 1 to {MAX_LIMIT} are allowed, or 0 for {DEFAULT_LIMIT}"))
    if request.mode not in _MODES:
        violations.append(("mode", f"is {request.mode}, which is not a search mode"))
    check_subjects(violations, "visible_to", request.visible_to, MAX_VISIBLE_TO)
    if violations:
        raise InvalidArgument(violations)
