"""The index on disk: SQLite with write-ahead log and synchronous=FULL, so what was answered is kept.

Documents keep their revision after deletion (a tombstone). Access lists are interned: a row of `acls` stands for a set
of subjects, here and in the vectors' mask. Passage ids are never used again.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hybrid_ai.models.embedder import DIMENSIONS, Vectors
from hybrid_ai.store.access import Access, Subjects
from hybrid_ai.store.passages import Passage

_SCHEMA = """
CREATE TABLE acls (id INTEGER PRIMARY KEY, subjects TEXT NOT NULL UNIQUE);
CREATE TABLE acl_subjects (subject TEXT NOT NULL, acl INTEGER NOT NULL REFERENCES acls, PRIMARY KEY (subject, acl))
    WITHOUT ROWID;
CREATE TABLE documents (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, revision INTEGER NOT NULL, deleted INTEGER NOT NULL,
    collection TEXT NOT NULL, title TEXT NOT NULL, uri TEXT NOT NULL, hash TEXT NOT NULL, acl INTEGER REFERENCES acls);
CREATE TABLE passages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, document INTEGER NOT NULL REFERENCES documents, offset INTEGER NOT NULL,
    title TEXT NOT NULL, text TEXT NOT NULL, vector BLOB NOT NULL);
CREATE INDEX passages_document ON passages (document);
CREATE VIRTUAL TABLE words USING fts5 (title, text, content='passages', content_rowid='id',
    tokenize='porter unicode61 remove_diacritics 2');
CREATE TRIGGER passage_added AFTER INSERT ON passages BEGIN
    INSERT INTO words (rowid, title, text) VALUES (new.id, new.title, new.text); END;
CREATE TRIGGER passage_removed AFTER DELETE ON passages BEGIN
    INSERT INTO words (words, rowid, title, text) VALUES ('delete', old.id, old.title, old.text); END;
"""
_VERSION = 1


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
    """A passage with what a caller wants to know of its document."""

    passage: int
    document_id: str
    revision: int
    collection: str
    title: str
    uri: str
    text: str
    offset: int


def open_database(folder: Path) -> sqlite3.Connection:
    """Opens the index, and makes its tables at first use. A connection is used by one thread at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / "index.sqlite3", isolation_level=None, check_same_thread=False)
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=10000;")
    connection.executescript("PRAGMA cache_size=-2000; PRAGMA foreign_keys=ON;")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")
    elif version != _VERSION:
        raise RuntimeError(f"the index in {folder} has version {version}; this program knows version {_VERSION}")
    return connection


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


def replace(connection: sqlite3.Connection, document: Document, passages: Sequence[Passage], vectors: Vectors) -> None:
    """Writes a document and its passages in place of older ones. Called inside a transaction."""
    acl = _acl(connection, document.subjects)
    row = _put(connection, document, deleted=False, acl=acl)
    connection.execute("DELETE FROM passages WHERE document = ?", (row,))
    connection.executemany(
        "INSERT INTO passages (document, offset, title, text, vector) VALUES (?, ?, ?, ?, ?)",
        [
            (row, passage.offset, document.title, passage.text, vector.astype("<f4").tobytes())
            for passage, vector in zip(passages, vectors, strict=True)
        ],
    )


def bury(connection: sqlite3.Connection, key: str, revision: int) -> None:
    """Deletes a document's content and keeps its key and revision. Called inside a transaction."""
    row = _put(connection, Document(key, revision, "", "", "", "", frozenset()), deleted=True, acl=None)
    connection.execute("DELETE FROM passages WHERE document = ?", (row,))


def _put(connection: sqlite3.Connection, document: Document, deleted: bool, acl: int | None) -> int:
    (row,) = connection.execute(
        "INSERT INTO documents (key, revision, deleted, collection, title, uri, hash, acl)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (key) DO UPDATE SET revision = excluded.revision, deleted = excluded.deleted,"
        " collection = excluded.collection, title = excluded.title, uri = excluded.uri, hash = excluded.hash,"
        " acl = excluded.acl RETURNING id",
        (
            document.key,
            document.revision,
            deleted,
            document.collection,
            document.title,
            document.uri,
            document.hash,
            acl,
        ),
    ).fetchone()
    return int(row)


def _acl(connection: sqlite3.Connection, subjects: Subjects) -> int:
    name = json.dumps(sorted(subjects), ensure_ascii=False)
    row = connection.execute("SELECT id FROM acls WHERE subjects = ?", (name,)).fetchone()
    if row:
        return int(row[0])
    acl = int(connection.execute("INSERT INTO acls (subjects) VALUES (?)", (name,)).lastrowid or 0)
    connection.executemany(
        "INSERT INTO acl_subjects (subject, acl) VALUES (?, ?)", [(subject, acl) for subject in subjects]
    )
    return acl


def load_rows(connection: sqlite3.Connection, document: int | None = None) -> list[Row]:
    """Every passage, or a document's, for the vectors in memory."""
    where, values = ("", tuple[int, ...]()) if document is None else (" WHERE p.document = ?", (document,))
    rows = connection.execute(
        "SELECT p.id, d.id, d.key, d.collection, d.acl, p.vector FROM passages p JOIN documents d ON d.id = p.document"
        f"{where} ORDER BY d.id, p.id",
        values,
    )
    return [Row(row[0], row[1], row[2], row[3], row[4], np.frombuffer(row[5], "<f4", DIMENSIONS)) for row in rows]


def load_acls(connection: sqlite3.Connection, acl: int | None = None) -> dict[int, Subjects]:
    """Every access list, or one, by its id."""
    where, values = ("", tuple[int, ...]()) if acl is None else (" WHERE id = ?", (acl,))
    rows = connection.execute(f"SELECT id, subjects FROM acls{where}", values)
    return {row[0]: frozenset(json.loads(row[1])) for row in rows}


def find_words(
    connection: sqlite3.Connection, match: str, access: Access, collection: str, exclude: str, limit: int
) -> list[tuple[int, float]]:
    """Passages by BM25, best first, as (passage, score); the access filter is part of the query."""
    where, values = ["words MATCH ?"], [match]
    for group in access.groups:
        marks = ", ".join("?" * len(group))
        where.append(f"d.acl IN (SELECT acl FROM acl_subjects WHERE subject IN ({marks}))")
        values += group
    if collection:
        where.append("d.collection = ?")
        values.append(collection)
    if exclude:
        where.append("d.key <> ?")
        values.append(exclude)
    rows = connection.execute(
        "SELECT words.rowid, bm25(words, 2.0, 1.0) AS rank FROM words JOIN passages p ON p.id = words.rowid"
        f" JOIN documents d ON d.id = p.document WHERE {' AND '.join(where)} ORDER BY rank, words.rowid LIMIT ?",
        (*values, limit),
    )
    return [(row[0], -row[1]) for row in rows]


def fetch(connection: sqlite3.Connection, passages: Sequence[int]) -> dict[int, Found]:
    """The passages that are still there, by id."""
    marks = ", ".join("?" * len(passages))
    rows = connection.execute(
        "SELECT p.id, d.key, d.revision, d.collection, d.title, d.uri, p.text, p.offset FROM passages p"
        f" JOIN documents d ON d.id = p.document WHERE p.id IN ({marks})",
        tuple(passages),
    )
    return {row[0]: Found(*row) for row in rows}
