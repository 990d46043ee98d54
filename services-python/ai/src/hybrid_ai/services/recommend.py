"""RecommendService: the catalogue, what people do with it, and what follows from that."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from hybrid.ai.v1 import recommend_service_pb2 as pb
from hybrid.ai.v1 import recommend_service_pb2_grpc

from hybrid_ai.errors import InvalidArgument, NotFound
from hybrid_ai.recommend.journal import Interaction, Kind
from hybrid_ai.recommend.ranking import Ranked
from hybrid_ai.recommend.recommender import ForFilm, ForPerson, Recommender
from hybrid_ai.services.checks import Violations, check_length, check_range
from hybrid_ai.services.edge import current_call

MAX_KEY, MAX_QUERY, MAX_GENRE = 64, 256, 64
MAX_LIMIT, DEFAULT_LIMIT = 100, 10
MAX_PAGE, DEFAULT_PAGE = 1_000, 20
# How many interactions of one stream may wait for the disk; then no more are read from it.
WINDOW = 64

_KINDS = {
    pb.INTERACTION_KIND_CLICK: Kind.CLICK,
    pb.INTERACTION_KIND_LIKE: Kind.LIKE,
    pb.INTERACTION_KIND_DISMISS: Kind.DISMISS,
}
_Pending = asyncio.Task[pb.RecordInteractionResponse]


class RecommendService(recommend_service_pb2_grpc.RecommendServiceServicer):
    """Implements hybrid.ai.v1.RecommendService."""

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender
        self._catalogue = recommender.catalogue

    async def ListItems(self, request: pb.ListItemsRequest, context: Any) -> pb.ListItemsResponse:
        start = self._check_page(request)
        found = self._catalogue.find(request.query, request.genre)
        end = start + (request.page_size or DEFAULT_PAGE)
        response = pb.ListItemsResponse(total_size=len(found), next_page_token=str(end) if end < len(found) else "")
        response.items.extend(self._item(film) for film in found[start:end])
        return response

    async def GetItem(self, request: pb.GetItemRequest, context: Any) -> pb.GetItemResponse:
        return pb.GetItemResponse(item=self._item(self._position(request.item_id)))

    async def ListSimilarItems(self, request: pb.ListSimilarItemsRequest, context: Any) -> pb.ListSimilarItemsResponse:
        film = self._position(request.item_id, request.limit)
        answer, timing = await self._recommender.ask(ForFilm(film, request.limit or DEFAULT_LIMIT))
        current_call().add_timing("queue", timing.queue)
        return pb.ListSimilarItemsResponse(recommendations=map(self._recommendation, answer.ranked))

    async def Recommend(self, request: pb.RecommendRequest, context: Any) -> pb.RecommendResponse:
        violations: Violations = []
        check_range(violations, "limit", request.limit, 0, MAX_LIMIT)
        if violations:
            raise InvalidArgument(violations)
        call = current_call()
        question = ForPerson(call.identity.subject, request.limit or DEFAULT_LIMIT)
        answer, timing = await self._recommender.ask(question)
        call.add_timing("queue", timing.queue)
        call.add_timing("inference", timing.inference)
        recommendations = map(self._recommendation, answer.ranked)
        return pb.RecommendResponse(recommendations=recommendations, based_on=answer.based_on)

    async def RecordInteraction(
        self, requests: AsyncIterator[pb.RecordInteractionRequest], context: Any
    ) -> AsyncIterator[pb.RecordInteractionResponse]:
        """Reads ahead of the disk, up to the window, and answers in order."""
        window: asyncio.Queue[_Pending | None] = asyncio.Queue(WINDOW)
        reader = asyncio.create_task(self._read(requests, current_call().identity.subject, window))
        try:
            while (pending := await window.get()) is not None:
                yield await pending
            await reader
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await reader
            while not window.empty():  # a caller that went away: what was not begun is dropped
                if (waiting := window.get_nowait()) is not None:
                    waiting.cancel()

    async def _read(
        self, requests: AsyncIterator[pb.RecordInteractionRequest], person: str, window: asyncio.Queue[_Pending | None]
    ) -> None:
        try:
            async for request in requests:
                interaction = self._check_interaction(request, person)
                await window.put(asyncio.create_task(self._record(interaction)))
        except Exception:
            await window.put(None)
            raise
        await window.put(None)

    async def _record(self, interaction: Interaction) -> pb.RecordInteractionResponse:
        new = await self._recommender.record(interaction)
        return pb.RecordInteractionResponse(key=interaction.key, repeated_key=not new)

    def _check_interaction(self, request: pb.RecordInteractionRequest, person: str) -> Interaction:
        violations: Violations = []
        check_length(violations, "key", request.key, 1, MAX_KEY)
        if request.kind not in _KINDS:
            violations.append(("kind", f"is {request.kind}; click, like and dismiss are allowed"))
        if request.item_id not in self._catalogue.positions:
            violations.append(("item_id", f"is {request.item_id[:MAX_KEY]!r}, which the catalogue does not have"))
        if violations:
            raise InvalidArgument(violations)
        return Interaction(person, request.key, request.item_id, _KINDS[request.kind])

    def _check_page(self, request: pb.ListItemsRequest) -> int:
        """The page's first position."""
        violations: Violations = []
        check_length(violations, "query", request.query, 0, MAX_QUERY)
        if request.genre and request.genre not in self._catalogue.genres:
            genres = ", ".join(sorted(self._catalogue.genres))
            violations.append(("genre", f"is {request.genre[:MAX_GENRE]!r}; allowed are {genres}"))
        check_range(violations, "page_size", request.page_size, 0, MAX_PAGE)
        token = request.page_token or "0"
        if not (token.isascii() and token.isdigit() and len(token) <= 9):
            violations.append(("page_token", "is not one that a page gave"))
        if violations:
            raise InvalidArgument(violations)
        return int(token)

    def _position(self, item: str, limit: int = 0) -> int:
        violations: Violations = []
        check_length(violations, "item_id", item, 1, MAX_KEY)
        check_range(violations, "limit", limit, 0, MAX_LIMIT)
        if violations:
            raise InvalidArgument(violations)
        position = self._catalogue.positions.get(item)
        if position is None:
            raise NotFound(f"item_id: {item!r} does not exist", reason="ITEM_NOT_FOUND")
        return position

    def _item(self, position: int) -> pb.CatalogueItem:
        film = self._catalogue.films[position]
        likes = int(self._catalogue.likes[position])
        return pb.CatalogueItem(id=film.key, title=film.title, year=film.year, genres=film.genres, likes=likes)

    def _recommendation(self, ranked: Ranked) -> pb.Recommendation:
        if ranked.because is None:
            reason, because = pb.RECOMMENDATION_REASON_POPULAR, ""
        else:
            near = ranked.content > 0.5
            reason = pb.RECOMMENDATION_REASON_SIMILAR_CONTENT if near else pb.RECOMMENDATION_REASON_LIKED_TOGETHER
            because = self._catalogue.films[ranked.because].key
        item = self._item(ranked.film)
        return pb.Recommendation(item=item, score=ranked.score, reason=reason, because_item_id=because)
