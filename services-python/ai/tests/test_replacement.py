"""A document that is replaced is found by every search: as it was, or as it is."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_store import Engine, access, put, tokenizer

from hybrid_ai.models.embedder import TextTokenizer
from hybrid_ai.store.index import DocumentIndex, Mode, Query
from hybrid_ai.store.vectors import Scope, Selection

__all__ = ["tokenizer"]


@pytest.fixture
def index(tmp_path: Path, tokenizer: TextTokenizer) -> Iterator[DocumentIndex]:
    made = DocumentIndex(tmp_path, Engine(tokenizer))  # type: ignore[arg-type]
    yield made
    made.close()


async def revisions(index: DocumentIndex, mode: Mode) -> list[int]:
    hits = await index.search(Query("zebra", access("alice"), 5, mode))
    return [found.revision for found, _ in hits.found]


@pytest.mark.parametrize("mode", Mode)
def test_a_replacement_in_the_middle_of_a_search_hides_nothing(
    index: DocumentIndex, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        await put(index, "d", "zebra one")
        loop, select, pending = asyncio.get_running_loop(), index._vectors.select, [2]

        def replaced_after(scope: Scope) -> Selection:
            """What may be seen is chosen, and the next thing that happens is the replacement."""
            selection = select(scope)
            while pending:
                change = put(index, "d", "zebra two", revision=pending.pop())
                asyncio.run_coroutine_threadsafe(change, loop).result(20)
            return selection

        monkeypatch.setattr(index._vectors, "select", replaced_after)
        assert await revisions(index, mode) == [2]

    asyncio.run(run())


@pytest.mark.parametrize("mode", Mode)
def test_a_search_that_comes_before_memory_has_followed_waits_for_it(
    index: DocumentIndex, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        await put(index, "d", "zebra one")
        loop, follow, searches = asyncio.get_running_loop(), index._follower.follow, list[Any]()

        def searched_before(connection: Any) -> None:
            """The change is on disk and not in memory yet, and somebody searches."""
            if not searches:
                searches.append(asyncio.run_coroutine_threadsafe(revisions(index, mode), loop))
            follow(connection)

        monkeypatch.setattr(index._follower, "follow", searched_before)
        await put(index, "d", "zebra two", revision=2)
        assert await asyncio.wrap_future(searches[0]) == [2]

    asyncio.run(run())


def test_searches_among_many_replacements_always_find_the_document(index: DocumentIndex) -> None:
    async def replace() -> None:
        for revision in range(2, 80):
            await put(index, "d", f"zebra {revision}", revision=revision)

    async def run() -> None:
        await put(index, "d", "zebra 1")
        replacing = asyncio.ensure_future(replace())
        while not replacing.done():
            for mode in Mode:
                assert len(await revisions(index, mode)) == 1
        await replacing

    asyncio.run(run())
