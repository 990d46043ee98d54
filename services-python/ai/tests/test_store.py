"""The store by itself: bounded ranking, another model, older files. A stand-in for the engine makes the vectors."""

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from conftest import settings

from hybrid_ai.errors import Overloaded
from hybrid_ai.models.embedder import DIMENSIONS, TextTokenizer, Vectors
from hybrid_ai.serving.worker import Timing
from hybrid_ai.store import words
from hybrid_ai.store.access import Access
from hybrid_ai.store.database import Document
from hybrid_ai.store.index import DocumentIndex, Mode, Outcome, Query
from hybrid_ai.store.schema import _FIRST, VERSION, open_database


@dataclass
class Answered:
    vectors: Vectors
    timing: Timing


class Engine:
    """Embeds a text as numbers drawn by its words: equal words, near vectors. Another seed is another model."""

    def __init__(self, tokenizer: TextTokenizer, seed: int = 0) -> None:
        self.tokenizer = tokenizer
        self.seed = seed
        self.texts = 0
        self.refuse = 0
        self.refused = asyncio.Event()
        self.limit = 1 << 30

    async def embed(self, texts: Sequence[str]) -> Answered:
        if self.refuse:
            self.refuse -= 1
            self.refused.set()
            raise Overloaded("busy")
        self.texts += len(texts)
        if self.texts > self.limit:
            raise KeyboardInterrupt("the process is killed here")
        vectors = np.stack([self.vector(text) for text in texts])
        return Answered(vectors, Timing(0.0, 0.0))

    def vector(self, text: str) -> Vectors:
        total = np.zeros(DIMENSIONS, np.float32)
        for word in text.lower().split():
            seed = [self.seed, *word.encode()]
            total += np.random.default_rng(seed).standard_normal(DIMENSIONS, np.float32)
        return total / np.float32(np.linalg.norm(total) or 1)


def access(*subjects: str) -> Access:
    return Access((frozenset(subjects),))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    return TextTokenizer(settings(tmp_path_factory.mktemp("data")).models_dir)


@pytest.fixture
def small_bound(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Ranks at most 20 passages, so that 400 are many."""
    monkeypatch.setattr(words, "RANKED", 20)
    yield 20


async def put(index: DocumentIndex, key: str, text: str, owner: str = "alice", revision: int = 1) -> Outcome:
    outcome, _, _ = await index.index(Document(key, revision, "", "", text, "", frozenset((owner,))))
    return outcome


def find(index: DocumentIndex, text: str, owner: str = "alice", mode: Mode = Mode.TEXT, limit: int = 5) -> list[str]:
    hits = asyncio.run(index.search(Query(text, access(owner), limit, mode)))
    return [found.document_id for found, _ in hits.found]


def fill(index: DocumentIndex) -> None:
    async def run() -> None:
        for number in range(400):
            rare = " quartz" if number == 77 else " copper" if number % 40 == 3 else ""
            owner = "bob" if number in (11, 222) else "alice"
            await put(index, f"d/{number}", f"common stone number{number}{rare}", owner)

    asyncio.run(run())


def test_a_query_ranks_no_more_than_the_bound_and_still_finds_the_best(
    tmp_path: Path, tokenizer: TextTokenizer, small_bound: int
) -> None:
    index = DocumentIndex(tmp_path, Engine(tokenizer))  # type: ignore[arg-type]
    fill(index)
    assert find(index, "common quartz stone")[0] == "d/77"
    assert find(index, "stone copper quartz")[0] == "d/77"
    assert set(find(index, "the common copper", limit=10)) == {f"d/{n}" for n in range(3, 400, 40)}
    newest = find(index, "common stone", limit=100)
    assert len(newest) == small_bound and newest[0].startswith("d/3")
    index.close()


def test_who_may_read_little_finds_it_among_all_that_others_have(
    tmp_path: Path, tokenizer: TextTokenizer, small_bound: int
) -> None:
    index = DocumentIndex(tmp_path, Engine(tokenizer))  # type: ignore[arg-type]
    fill(index)
    for query in ("common", "common stone", "stone copper", "quartz common"):
        expected = {"d/11", "d/222"} if query.startswith("common") else set[str]()
        for mode in (Mode.TEXT, Mode.HYBRID, Mode.VECTOR):
            found = set(find(index, query, "bob", mode, limit=100))
            assert found == {"d/11", "d/222"} or (mode is Mode.TEXT and found == expected), (query, mode)
    index.close()


def test_another_model_embeds_anew_while_the_old_vectors_serve(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    old = DocumentIndex(tmp_path, Engine(tokenizer), "model@1")  # type: ignore[arg-type]
    texts = [f"topic{number} of the day" for number in range(30)]
    for number, text in enumerate(texts):
        asyncio.run(put(old, f"d/{number}", text))
    old.close()

    engine = Engine(tokenizer, seed=1)
    index = DocumentIndex(tmp_path, engine, "model@2")  # type: ignore[arg-type]

    async def while_refreshing() -> None:
        engine.refuse = 1  # callers come first: it waits, and goes on
        task = asyncio.create_task(index.refresh())
        await engine.refused.wait()
        await put(index, "late", "a late document")
        seen = 0
        while not task.done():
            for mode in Mode:
                hits = await index.search(Query("topic7 of the day", access("alice"), 31, mode))
                seen += 1
                assert {found.document_id for found, _ in hits.found} >= {"d/7"}, mode
                assert mode is Mode.TEXT or len(hits.found) == 31, "a passage went dark"
        assert await task == 30 and seen > 0

    asyncio.run(while_refreshing())
    assert all(find(index, text, mode=Mode.VECTOR, limit=1) == [f"d/{n}"] for n, text in enumerate(texts))
    assert asyncio.run(index.refresh()) == 0
    index.close()
    again = DocumentIndex(tmp_path, Engine(tokenizer, seed=1), "model@2")  # type: ignore[arg-type]
    assert all(find(again, text, mode=Mode.VECTOR, limit=1) == [f"d/{n}"] for n, text in enumerate(texts))
    assert asyncio.run(again.refresh()) == 0
    again.close()


def test_a_refresh_that_is_broken_off_goes_on_where_it_was(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    old = DocumentIndex(tmp_path, Engine(tokenizer), "model@1")  # type: ignore[arg-type]
    for number in range(20):
        asyncio.run(put(old, f"d/{number}", f"topic{number}"))
    old.close()
    engine = Engine(tokenizer, seed=1)
    engine.limit = 8
    index = DocumentIndex(tmp_path, engine, "model@2")  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(index.refresh())
    index.close()
    index = DocumentIndex(tmp_path, Engine(tokenizer, seed=1), "model@2")  # type: ignore[arg-type]
    assert len(find(index, "topic3", mode=Mode.VECTOR, limit=50)) == 20
    assert asyncio.run(index.refresh()) == 12
    assert find(index, "topic19", mode=Mode.VECTOR, limit=1) == ["d/19"]
    index.close()


def test_a_document_that_changes_during_its_refresh_keeps_its_newest_text(
    tmp_path: Path, tokenizer: TextTokenizer
) -> None:
    old = DocumentIndex(tmp_path, Engine(tokenizer), "model@1")  # type: ignore[arg-type]
    for number in range(2):
        asyncio.run(put(old, f"d/{number}", "old words"))
    old.close()

    class Meddling(Engine):
        meddle = True

        async def embed(self, texts: Sequence[str]) -> Answered:
            if self.meddle:
                self.meddle = False
                await put(index, "d/0", "new words", revision=2)
                await index.delete("d/1", 2)
            return await super().embed(texts)

    index = DocumentIndex(tmp_path, Meddling(tokenizer, seed=1), "model@2")  # type: ignore[arg-type]
    asyncio.run(index.refresh())
    assert find(index, "words", mode=Mode.VECTOR) == find(index, "new", mode=Mode.TEXT) == ["d/0"]
    assert find(index, "old") == []
    index.close()


def test_a_file_of_the_first_version_is_taken_over(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    file = sqlite3.connect(tmp_path / "index.sqlite3", isolation_level=None)
    file.executescript(f"BEGIN; {_FIRST} PRAGMA user_version=1; COMMIT;")
    file.execute("INSERT INTO acls VALUES (1, '[\"alice\"]')")
    file.execute("INSERT INTO documents VALUES (1, 'd/1', 4, 0, 'notes', 'Title', '/d/1', '', 1)")
    vector = Engine(tokenizer).vector("an old passage").tobytes()
    file.execute("INSERT INTO passages VALUES (1, 1, 0, 'Title', 'an old passage', ?)", (vector,))
    file.close()
    index = DocumentIndex(tmp_path, Engine(tokenizer), "model@2")  # type: ignore[arg-type]
    for mode in Mode:
        assert find(index, "an old passage", mode=mode) == ["d/1"]
    assert asyncio.run(put(index, "d/1", "older", revision=3)) == Outcome.STALE
    assert asyncio.run(index.refresh()) == 1
    assert find(index, "old passage", mode=Mode.HYBRID) == ["d/1"]
    index.close()


def test_a_file_of_a_later_version_is_refused(tmp_path: Path) -> None:
    open_database(tmp_path).execute(f"PRAGMA user_version={VERSION + 1}")
    with pytest.raises(RuntimeError, match=f"version {VERSION + 1}"):
        open_database(tmp_path)
