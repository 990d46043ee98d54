"""The document index as the services see it: index, delete, search. Safe to call concurrently.

Changes run one after another on one thread (transaction, then vectors in memory); searches run on others. A change that
has begun finishes even when its caller has gone. SQLite never runs on the event loop.
"""

import asyncio
import enum
import re
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from hybrid_ai.models.embedder import DIMENSIONS, Vectors
from hybrid_ai.serving.embedding import EmbeddingModel
from hybrid_ai.serving.worker import Timing
from hybrid_ai.store import database
from hybrid_ai.store.access import Access
from hybrid_ai.store.changes import Follower
from hybrid_ai.store.database import Document, Found, Row
from hybrid_ai.store.passages import Passage, split
from hybrid_ai.store.vectors import VectorIndex

T = TypeVar("T")
_READERS = 2
_EMBED_AT_ONCE = 64
# Reciprocal rank fusion (Cormack, Clarke and Büttcher 2009), with their constant.
_FUSION = 60
_MAX_WORDS = 64


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
    """A search. `exclude` is a document's key."""

    text: str
    access: Access
    limit: int
    mode: Mode = Mode.HYBRID
    collection: str = ""
    exclude: str = ""


@dataclass(frozen=True)
class Hits:
    """What a search found, best first, and where its time went."""

    found: list[tuple[Found, float]]
    timing: Timing


class DocumentIndex:
    """Documents with revisions, kept on disk and found by words and by meaning."""

    def __init__(self, folder: Path, embedding: EmbeddingModel) -> None:
        self._folder = folder
        self._embedding = embedding
        self._vectors = VectorIndex()
        self._writer = database.open_database(folder)
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix="index-write")
        self._split_thread = ThreadPoolExecutor(1, thread_name_prefix="index-split")
        self._read_threads = ThreadPoolExecutor(_READERS, thread_name_prefix="index-read")
        self._follower = Follower(self._writer, self._vectors)
        self._load()

    async def index(self, document: Document) -> tuple[Outcome, int, int]:
        """Stores a document unless a newer state is known. Returns what happened, the stored revision, its passages."""
        known = await self._read(lambda connection: database.stored(connection, document.key))
        if known is not None and known.revision >= document.revision:
            return await self._write(lambda: self._apply(document, [], np.empty((0, DIMENSIONS), np.float32)))
        loop = asyncio.get_running_loop()
        passages = await loop.run_in_executor(self._split_thread, split, document.text, self._embedding.tokenizer)
        if not passages and document.title:
            passages = [Passage(0, "")]
        vectors = await self._embed([f"{document.title}\n{passage.text}".strip() for passage in passages])
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
            if await self._read(self._follower.behind):
                await self._write(lambda: self._follower.follow(self._writer))
        return Hits(await self._read(lambda connection: self._find(connection, query, vector)), timing)

    async def known_under(self, prefix: str) -> dict[str, database.Stored]:
        """What is stored of the keys that start with the prefix."""
        return await self._read(lambda connection: database.keys_under(connection, prefix))

    def close(self) -> None:
        """Lets begun changes finish, then closes the files."""
        for threads in (self._split_thread, self._read_threads, self._write_thread):
            threads.shutdown(wait=True, cancel_futures=threads is not self._write_thread)
        for connection in (*self._connections, self._writer):
            connection.close()

    def _load(self) -> None:
        groups: dict[int, list[Row]] = {}
        for row in database.load_rows(self._writer):
            groups.setdefault(row.document, []).append(row)
        acls = database.load_acls(self._writer)
        for document, rows in groups.items():
            self._vectors.replace(document, rows, acls)

    async def _embed(self, texts: list[str]) -> Vectors:
        """Embeds passages a few at a time, so that a long document never fills the queue."""
        parts = [np.empty((0, DIMENSIONS), np.float32)]
        for start in range(0, len(texts), _EMBED_AT_ONCE):
            parts.append((await self._embedding.embed(texts[start : start + _EMBED_AT_ONCE])).vectors)
        return np.concatenate(parts)

    async def _write(self, change: Callable[[], T]) -> T:
        future = asyncio.get_running_loop().run_in_executor(self._write_thread, change)
        return await asyncio.shield(future)

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._read_threads, self._with_connection, query)

    def _with_connection(self, query: Callable[[sqlite3.Connection], T]) -> T:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = database.open_database(self._folder)
            self._connections.append(connection)
        connection.execute("BEGIN")  # one snapshot for all that the query reads
        try:
            return query(connection)
        finally:
            connection.execute("COMMIT")

    def _apply(self, document: Document, passages: list[Passage], vectors: Vectors) -> tuple[Outcome, int, int]:
        """On the write thread: the revision decides, in the same transaction as the change."""
        with _Transaction(self._writer):
            known = database.stored(self._writer, document.key)
            if known is not None and known.revision >= document.revision:
                count = "SELECT count(*) FROM passages WHERE document = ?"
                (stored,) = self._writer.execute(count, (known.row,)).fetchone()
                return (Outcome.DELETED if known.deleted else Outcome.STALE), known.revision, stored
            database.replace(self._writer, document, passages, vectors)
        self._follower.follow(self._writer)
        return Outcome.INDEXED, document.revision, len(passages)

    def _bury(self, key: str, revision: int) -> bool:
        with _Transaction(self._writer):
            known = database.stored(self._writer, key)
            if known is not None and known.revision > revision:
                return known.deleted
            database.bury(self._writer, key, revision)
        self._follower.follow(self._writer)
        return True

    def _find(self, connection: sqlite3.Connection, query: Query, vector: Vectors | None) -> list[tuple[Found, float]]:
        """On a read thread. More is ranked than asked for: a passage may be replaced between the two halves."""
        wanted = 2 * query.limit + 40
        ranked: list[list[tuple[int, float]]] = []
        if vector is not None:
            ranked.append(self._vectors.find(vector, query.access, query.collection, query.exclude, wanted))
        if query.mode is not Mode.VECTOR and (match := _match(query.text)):
            words = database.find_words(connection, match, query.access, query.collection, query.exclude, wanted)
            ranked.append(words)
        scores = _fuse(ranked) if query.mode is Mode.HYBRID else dict(ranked[0] if ranked else ())
        best = sorted(scores, key=lambda passage: (-scores[passage], passage))[:wanted]
        found = database.fetch(connection, best)
        return [(found[passage], scores[passage]) for passage in best if passage in found][: query.limit]


class _Transaction:
    """BEGIN IMMEDIATE … COMMIT, or ROLLBACK on an error."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._connection.execute("COMMIT" if error is None else "ROLLBACK")


def _fuse(rankings: list[list[tuple[int, float]]]) -> dict[int, float]:
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, (passage, _) in enumerate(ranking, 1):
            scores[passage] = scores.get(passage, 0.0) + 1 / (_FUSION + rank)
    return scores


def _match(text: str) -> str:
    """An FTS5 query: any of the words, each quoted, so that nothing in the text is taken for an operator."""
    words = dict.fromkeys(re.findall(r"\w+", text.lower()))
    return " OR ".join(f'"{word}"' for word in list(words)[:_MAX_WORDS])
