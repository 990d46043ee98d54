"""The index on disk: SQLite with write-ahead log and synchronous=FULL, so what was answered is kept.

Documents keep their revision after deletion (a tombstone). Access lists are interned: a row of `acls` stands for a set
of subjects, here and in memory. Passage ids are never used again. The tables are in `schema`.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hybrid_ai.models.embedder import DIMENSIONS, Vectors
from hybrid_ai.store import fields
from hybrid_ai.store.access import Subjects
from hybrid_ai.store.passages import Passage


@dataclass(frozen=True)
class Document:
    """A document to store; see hybrid.ai.v1.Document. `hash` tells whether the content changed, where it matters."""

    key: str
    revision: int
    collection: str
    title: str
    text: str
    uri: str
    subjects: Subjects
    hash: str = ""
    metadata: Mapping[str, fields.Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Stored:
    """What the index knows of a key."""

    row: int
    revision: int
    deleted: bool
    hash: str


@dataclass(frozen=True)
class Row:
    """A passage as it is kept in memory for vector search."""

    passage: int
    document: int
    key: str
    collection: str
    acl: int
    vector: Vectors


@dataclass(frozen=True)
class Found:
    """A passage with what a caller wants to know of its document. `metadata` is JSON, or empty."""

    passage: int
    document_id: str
    revision: int
    collection: str
    title: str
    uri: str
    text: str
    offset: int
    metadata: str = ""


class Transaction:
    """BEGIN IMMEDIATE … COMMIT, or ROLLBACK on an error."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._connection.execute("COMMIT" if error is None else "ROLLBACK")


def stored(connection: sqlite3.Connection, key: str) -> Stored | None:
    """What is known of a key, deletions included."""
    row = connection.execute("SELECT id, revision, deleted, hash FROM documents WHERE key = ?", (key,)).fetchone()
    return Stored(row[0], row[1], bool(row[2]), row[3]) if row else None


def keys_under(connection: sqlite3.Connection, prefix: str) -> dict[str, Stored]:
    """Every key that starts with the prefix, deletions included."""
    rows = connection.execute(
        "SELECT key, id, revision, deleted, hash FROM documents WHERE substr(key, 1, ?) = ?", (len(prefix), prefix)
    )
    return {row[0]: Stored(row[1], row[2], bool(row[3]), row[4]) for row in rows}


def model_row(connection: sqlite3.Connection, name: str) -> int:
    """The row that stands for a model. Called inside a transaction."""
    connection.execute("INSERT OR IGNORE INTO models (name) VALUES (?)", (name,))
    (row,) = connection.execute("SELECT id FROM models WHERE name = ?", (name,)).fetchone()
    return int(row)


def replace(
    connection: sqlite3.Connection, document: Document, passages: Sequence[Passage], vectors: Vectors, model: int
) -> None:
    """Writes a document and its passages in place of older ones. Called inside a transaction."""
    acl = _acl(connection, document.subjects)
    row = _put(connection, document, deleted=False, acl=acl)
    connection.execute("DELETE FROM passages WHERE document = ?", (row,))
    connection.executemany(
        "INSERT INTO fields (document, key, kind, value) VALUES (?, ?, ?, ?)",
        [(row, *values) for values in fields.rows(document.metadata)],
    )
    for passage, vector in zip(passages, vectors, strict=True):
        cursor = connection.execute(
            "INSERT INTO passages (document, offset, title, text) VALUES (?, ?, ?, ?)",
            (row, passage.offset, document.title, passage.text),
        )
        connection.execute(
            "INSERT INTO vectors (passage, document, model, vector) VALUES (?, ?, ?, ?)",
            (int(cursor.lastrowid or 0), row, model, vector.astype("<f4").tobytes()),
        )


def bury(connection: sqlite3.Connection, key: str, revision: int) -> None:
    """Deletes a document's content and keeps its key and revision. Called inside a transaction."""
    row = _put(connection, Document(key, revision, "", "", "", "", frozenset()), deleted=True, acl=None)
    connection.execute("DELETE FROM passages WHERE document = ?", (row,))


def _put(connection: sqlite3.Connection, document: Document, deleted: bool, acl: int | None) -> int:
    columns = {
        "key": document.key, "revision": document.revision, "deleted": deleted, "collection": document.collection,
        "title": document.title, "uri": document.uri, "hash": document.hash, "acl": acl,
        "metadata": json.dumps(document.metadata, ensure_ascii=False) if document.metadata else "",
    }  # fmt: skip
    updates = ", ".join(f"{name} = excluded.{name}" for name in columns if name != "key")
    (row,) = connection.execute(
        f"INSERT INTO documents ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        f" ON CONFLICT (key) DO UPDATE SET {updates} RETURNING id",
        tuple(columns.values()),
    ).fetchone()
    connection.execute("DELETE FROM fields WHERE document = ?", (row,))
    return int(row)


def _acl(connection: sqlite3.Connection, subjects: Subjects) -> int:
    name = json.dumps(sorted(subjects), ensure_ascii=False)
    row = connection.execute("SELECT id FROM acls WHERE subjects = ?", (name,)).fetchone()
    if row:
        return int(row[0])
    return int(connection.execute("INSERT INTO acls (subjects) VALUES (?)", (name,)).lastrowid or 0)


_ROWS = (
    "SELECT v.passage, d.id, d.key, d.collection, d.acl, v.vector FROM vectors v JOIN documents d ON d.id = v.document"
)


def load_rows(connection: sqlite3.Connection, document: int | None = None) -> Iterator[Row]:
    """Every passage, or a document's, for the vectors in memory; a document's follow each other."""
    where, values = ("", tuple[int, ...]()) if document is None else (" WHERE v.document = ?", (document,))
    yield from map(_row, connection.execute(f"{_ROWS}{where} ORDER BY v.document, v.passage", values))


def _row(row: tuple[int, int, str, str, int, bytes]) -> Row:
    return Row(row[0], row[1], row[2], row[3], row[4], vector(row[5]))


def vector(stored: bytes) -> Vectors:
    """A vector as it is on disk."""
    return np.frombuffer(stored, "<f4", DIMENSIONS)


def load_acls(connection: sqlite3.Connection, acl: int | None = None) -> dict[int, Subjects]:
    """Every access list, or one, by its id."""
    where, values = ("", tuple[int, ...]()) if acl is None else (" WHERE id = ?", (acl,))
    rows = connection.execute(f"SELECT id, subjects FROM acls{where}", values)
    return {row[0]: frozenset(json.loads(row[1])) for row in rows}


def cosines(connection: sqlite3.Connection, query: Vectors, passages: Sequence[int]) -> list[tuple[int, float]]:
    """The passages with their exact cosines, best first."""
    marks = ", ".join("?" * len(passages))
    rows = connection.execute(f"SELECT passage, vector FROM vectors WHERE passage IN ({marks})", passages).fetchall()
    scored = [(row[0], float(vector(row[1]) @ query)) for row in rows]
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))


def first(connection: sqlite3.Connection, passages: Sequence[int], limit: int) -> list[Found]:
    """The first passages that are still there, in their order. Looks up more than the limit where some are not."""
    there: list[Found] = []
    for start in range(0, len(passages), limit):
        there += _fetch(connection, passages[start : start + limit])
        if len(there) >= limit:
            break
    return there[:limit]


def _fetch(connection: sqlite3.Connection, passages: Sequence[int]) -> list[Found]:
    marks = ", ".join("?" * len(passages))
    rows = connection.execute(
        "SELECT p.id, d.key, d.revision, d.collection, d.title, d.uri, p.text, p.offset, d.metadata FROM passages p"
        f" JOIN documents d ON d.id = p.document WHERE p.id IN ({marks})",
        tuple(passages),
    )
    found = {row[0]: Found(*row) for row in rows}
    return [found[passage] for passage in passages if passage in found]
