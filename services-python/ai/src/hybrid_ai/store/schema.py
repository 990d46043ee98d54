"""The index's tables, and how an older file becomes one of today: in one transaction, at the first start.

Passages are found by their words (`words`, FTS5) and by their vector; a vector names the model that computed it.
`fields` is the documents' metadata, a row for each value.
"""

import sqlite3
from pathlib import Path

# How words are told apart and made one with their other forms; a change needs the words indexed anew.
TOKENIZER = "porter unicode61 remove_diacritics 2"

_FIRST = f"""
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
    tokenize='{TOKENIZER}');
CREATE TRIGGER passage_added AFTER INSERT ON passages BEGIN
    INSERT INTO words (rowid, title, text) VALUES (new.id, new.title, new.text); END;
CREATE TRIGGER passage_removed AFTER DELETE ON passages BEGIN
    INSERT INTO words (words, rowid, title, text) VALUES ('delete', old.id, old.title, old.text); END;
"""
# Vectors get a table of their own; those that are there were computed by the only model of that time. Who may read what
# is decided in memory, for both halves of the retrieval.
_SECOND = """
DROP TABLE acl_subjects;
CREATE TABLE models (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE vectors (
    passage INTEGER PRIMARY KEY, document INTEGER NOT NULL, model INTEGER NOT NULL REFERENCES models,
    vector BLOB NOT NULL);
CREATE INDEX vectors_model ON vectors (model, document);
INSERT INTO models (name) VALUES ('all-MiniLM-L6-v2');
INSERT INTO vectors SELECT id, document, 1, vector FROM passages;
ALTER TABLE passages DROP COLUMN vector;
CREATE TRIGGER passage_vector_removed AFTER DELETE ON passages BEGIN
    DELETE FROM vectors WHERE passage = old.id; END;
ALTER TABLE documents ADD COLUMN metadata TEXT NOT NULL DEFAULT '';
CREATE TABLE fields (
    document INTEGER NOT NULL REFERENCES documents, key TEXT NOT NULL, kind TEXT NOT NULL, value NOT NULL,
    PRIMARY KEY (key, kind, value, document)) WITHOUT ROWID;
CREATE INDEX fields_document ON fields (document);
"""
_STEPS = (_FIRST, _SECOND)
VERSION = len(_STEPS)


def open_database(folder: Path) -> sqlite3.Connection:
    """Opens the index, and brings its tables up to date. A connection is used by one thread at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / "index.sqlite3", isolation_level=None, check_same_thread=False)
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=10000;")
    connection.executescript("PRAGMA cache_size=-4000; PRAGMA foreign_keys=ON; PRAGMA temp_store=MEMORY;")
    while (version := _version(connection)) != VERSION:
        if version > VERSION:
            raise RuntimeError(f"the index in {folder} has version {version}; this program knows up to {VERSION}")
        try:
            connection.executescript(f"BEGIN IMMEDIATE; {_STEPS[version]} PRAGMA user_version={version + 1}; COMMIT;")
        except sqlite3.OperationalError:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if _version(connection) == version:  # else another process was faster
                raise
    return connection


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
