"""The document index as the services see it: index, delete, search. Safe to call concurrently.

Changes run one after another on one thread (transaction, then vectors in memory); searches run on others. A change that
has begun finishes even when its caller has gone. SQLite never runs on the event loop.
"""

import asyncio
import enum
import functools
import itertools
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from hybrid_ai.errors import Overloaded
from hybrid_ai.models.embedder import DIMENSIONS, MODEL_NAME, Vectors
from hybrid_ai.serving.embedding import EmbeddingModel
from hybrid_ai.serving.patience import when_there_is_room
from hybrid_ai.serving.worker import Timing
from hybrid_ai.store import database, fields, reindex
from hybrid_ai.store.access import Access
from hybrid_ai.store.changes import Follower
from hybrid_ai.store.database import Document, Found, Transaction
from hybrid_ai.store.passages import Passage, split
from hybrid_ai.store.schema import open_database
from hybrid_ai.store.vectors import Scope, VectorIndex
from hybrid_ai.store.words import WordIndex

T = TypeVar("T")
_READERS = 2
_EMBED_AT_ONCE = 64
# Reciprocal rank fusion (Cormack, Clarke and Büttcher 2009), with their constant.
_FUSION = 60
_PATIENCE_SECONDS = 0.2
# How often a search starts anew because something was written meanwhile; the last time it takes what it finds.
_ATTEMPTS = 8
_Ranked = tuple[list[tuple["Found", float]], dict[int, list[tuple[int, int]]]]


class Outcome(enum.Enum):
    """What became of a document that was sent for indexing."""

    INDEXED = enum.auto()
    STALE = enum.auto()
    DELETED = enum.auto()


class Mode(enum.Enum):
    """How passages are ranked."""

    HYBRID = enum.auto()
    VECTOR = enum.auto()
    TEXT = enum.auto()


@dataclass(frozen=True)
class Query:
    """A search. No collections: all. `exclude` is a document's key. `highlight`: say where the words are."""

    text: str
    access: Access
    limit: int
    mode: Mode = Mode.HYBRID
    collections: tuple[str, ...] = ()
    exclude: str = ""
    filters: tuple[fields.Filter, ...] = ()
    highlight: bool = False


@dataclass(frozen=True)
class Hits:
    """What a search found, best first, and where its time went; the query's vector, where it was made.

    `highlights` are by passage: (start, end).
    """

    found: list[tuple[Found, float]]
    timing: Timing
    highlights: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    vector: Vectors | None = None


class DocumentIndex:
    """Documents with revisions, kept on disk and found by words and by meaning."""

    def __init__(self, folder: Path, embedding: EmbeddingModel, model: str = MODEL_NAME) -> None:
        """`model` is the embedder's identity: where it differs from a vector's, that passage is embedded anew."""
        self._folder = folder
        self._embedding = embedding
        self._vectors = VectorIndex()
        self._words = WordIndex()
        self._writer = open_database(folder)
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix="index-write")
        self._split_thread = ThreadPoolExecutor(1, thread_name_prefix="index-split")
        self._read_threads = ThreadPoolExecutor(_READERS, thread_name_prefix="index-read")
        self._compare_threads = ThreadPoolExecutor(_READERS, thread_name_prefix="index-compare")
        self._follower = Follower(self._writer, self._vectors)
        with Transaction(self._writer):
            self._model = database.model_row(self._writer, model)
        self._load()

    async def index(self, document: Document, patient: bool = False) -> tuple[Outcome, int, int]:
        """Stores a document unless a newer state is known. Returns what happened, the stored revision, its passages.

        Raises Overloaded where too much waits to be embedded; if `patient`, it waits for room instead.
        """
        known = await self._read(lambda connection: database.stored(connection, document.key))
        if known is not None and known.revision >= document.revision:
            return await self._write(lambda: self._apply(document, [], np.empty((0, DIMENSIONS), np.float32)))
        loop = asyncio.get_running_loop()
        passages = await loop.run_in_executor(self._split_thread, split, document.text, self._embedding.tokenizer)
        if not passages and document.title:
            passages = [Passage(0, "")]
        texts = [reindex.embedded_text(document.title, passage.text) for passage in passages]
        vectors = await self._embed(texts, patient)
        return await self._write(lambda: self._apply(document, passages, vectors))

    async def delete(self, key: str, revision: int) -> bool:
        """Deletes up to and including a revision. Returns whether the document is gone."""
        return await self._write(lambda: self._bury(key, revision))

    async def search(self, query: Query) -> Hits:
        """Finds passages among those that `query.access` allows."""
        timing, vector = Timing(0.0, 0.0), None
        if query.mode is not Mode.TEXT:
            embedded = await self._embedding.embed([query.text])
            timing, vector = embedded.timing, embedded.vectors[0]
        for attempt in range(_ATTEMPTS):
            strict = attempt < _ATTEMPTS - 1
            hits = await self._read(functools.partial(self._find, query=query, vector=vector, strict=strict))
            if hits is not None:
                break
            await self._write(lambda: self._follower.follow(self._writer))
        assert hits is not None
        return Hits(hits[0], timing, hits[1], vector)

    async def refresh(self) -> int:
        """Embeds what another model has embedded, document by document; returns how many documents.

        Until its turn comes a passage is found by its old vector. Callers go first; after a crash it goes on.
        """
        refreshed = 0
        while (batch := await self._read(lambda connection: reindex.outdated(connection, self._model))) is not None:
            try:
                vectors = await self._embed(batch.texts)
            except Overloaded:
                await asyncio.sleep(_PATIENCE_SECONDS)
                continue
            await self._write(lambda batch=batch, vectors=vectors: self._renew(batch, vectors))  # type: ignore[misc]
            refreshed += 1
        return refreshed

    async def known_under(self, prefix: str) -> dict[str, database.Stored]:
        """What is stored of the keys that start with the prefix."""
        return await self._read(lambda connection: database.keys_under(connection, prefix))

    def close(self) -> None:
        """Lets begun changes finish, then closes the files."""
        for threads in (self._split_thread, self._read_threads, self._compare_threads, self._write_thread):
            threads.shutdown(wait=True, cancel_futures=threads is not self._write_thread)
        for connection in (*self._connections, self._writer):
            connection.close()

    def _load(self) -> None:
        acls = database.load_acls(self._writer)
        rows = database.load_rows(self._writer)
        for document, group in itertools.groupby(rows, lambda row: row.document):
            self._vectors.replace(document, list(group), acls)
            acls = {}

    async def _embed(self, texts: list[str], patient: bool = False) -> Vectors:
        """Embeds passages a few at a time, so that a long document never fills the queue."""
        parts = [np.empty((0, DIMENSIONS), np.float32)]
        for start in range(0, len(texts), _EMBED_AT_ONCE):
            embed = functools.partial(self._embedding.embed, texts[start : start + _EMBED_AT_ONCE])
            parts.append((await (when_there_is_room(embed) if patient else embed())).vectors)
        return np.concatenate(parts)

    async def _write(self, change: Callable[[], T]) -> T:
        future = asyncio.get_running_loop().run_in_executor(self._write_thread, change)
        return await asyncio.shield(future)

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._read_threads, self._with_connection, query)

    def _with_connection(self, query: Callable[[sqlite3.Connection], T]) -> T:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = open_database(self._folder)
            self._connections.append(connection)
        connection.execute("BEGIN")  # one snapshot for all that the query reads
        try:
            return query(connection)
        finally:
            connection.execute("COMMIT")

    def _apply(self, document: Document, passages: list[Passage], vectors: Vectors) -> tuple[Outcome, int, int]:
        """On the write thread: the revision decides, in the same transaction as the change."""
        with Transaction(self._writer):
            known = database.stored(self._writer, document.key)
            if known is not None and known.revision >= document.revision:
                count = "SELECT count(*) FROM passages WHERE document = ?"
                (stored,) = self._writer.execute(count, (known.row,)).fetchone()
                return (Outcome.DELETED if known.deleted else Outcome.STALE), known.revision, stored
            database.replace(self._writer, document, passages, vectors, self._model)
        self._follower.follow(self._writer)
        return Outcome.INDEXED, document.revision, len(passages)

    def _bury(self, key: str, revision: int) -> bool:
        with Transaction(self._writer):
            known = database.stored(self._writer, key)
            if known is not None and known.revision > revision:
                return known.deleted
            database.bury(self._writer, key, revision)
        self._follower.follow(self._writer)
        return True

    def _renew(self, batch: reindex.Batch, vectors: Vectors) -> None:
        """On the write thread: the new vectors of a document, as far as its passages are still there."""
        with Transaction(self._writer):
            reindex.store(self._writer, batch, vectors, self._model)
            self._follower.touch(self._writer, batch.document)
        self._follower.follow(self._writer)

    def _find(
        self, connection: sqlite3.Connection, query: Query, vector: Vectors | None, strict: bool
    ) -> _Ranked | None:
        """On a read thread. If `strict`, None where memory and this snapshot of the disk are not at the same change."""
        wanted, total, state = 2 * query.limit + 40, len(self._vectors), self._follower.state
        filters = fields.matching(connection, query.filters)
        selection = self._vectors.select(Scope(query.access, query.collections, query.exclude, filters))
        if strict and not self._follower.matches(connection, state):
            return None
        ranked: list[list[tuple[int, float]]] = []
        nearest = self._compare_threads.submit(selection.nearest, vector, wanted) if vector is not None else None
        if query.mode is not Mode.VECTOR:  # meanwhile: neither half holds the interpreter
            ranked.append(self._words.find(connection, query.text, selection, total, wanted))
        if vector is not None and nearest is not None:
            ranked.insert(0, database.cosines(connection, vector, nearest.result()))
        scores = _fuse(ranked) if query.mode is Mode.HYBRID else dict(ranked[0])
        best = sorted(scores, key=lambda passage: (-scores[passage], passage))[:wanted]
        hits = [(found, scores[found.passage]) for found in database.first(connection, best, query.limit)]
        shown = {hit.passage: hit.text for hit, _ in hits} if query.highlight else {}
        return hits, self._words.highlights(connection, query.text, shown, total)


def _fuse(rankings: list[list[tuple[int, float]]]) -> dict[int, float]:
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, (passage, _) in enumerate(ranking, 1):
            scores[passage] = scores.get(passage, 0.0) + 1 / (_FUSION + rank)
    return scores
