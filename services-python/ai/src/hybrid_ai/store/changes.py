"""Lets several processes share one index: what others wrote is taken into the vectors in memory before a search.

A trigger gives every changed document a new number. The check is one look at the highest; what is behind it is loaded
anew from the disk, which is also how a process follows its own writes. A search ranks where both are the same.
"""

import sqlite3

from hybrid_ai.store import database
from hybrid_ai.store.vectors import VectorIndex

_SCHEMA = """
CREATE TABLE IF NOT EXISTS changes (number INTEGER PRIMARY KEY AUTOINCREMENT, document INTEGER NOT NULL UNIQUE);
CREATE TRIGGER IF NOT EXISTS document_added AFTER INSERT ON documents BEGIN
    DELETE FROM changes WHERE document = new.id; INSERT INTO changes (document) VALUES (new.id); END;
CREATE TRIGGER IF NOT EXISTS document_changed AFTER UPDATE ON documents BEGIN
    DELETE FROM changes WHERE document = new.id; INSERT INTO changes (document) VALUES (new.id); END;
"""


class Follower:
    """Keeps the vectors in memory at what is on the disk. `follow` is called by one thread, `matches` by any."""

    def __init__(self, connection: sqlite3.Connection, vectors: VectorIndex) -> None:
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        self._vectors = vectors
        self._seen = self._last(connection)  # what changes while the rest is loaded is followed later
        self.state: int | None = self._seen

    def matches(self, connection: sqlite3.Connection, state: int | None) -> bool:
        """Whether the connection's snapshot shows what was in memory from when `state` was read until now.

        Otherwise a search would look up passages of one revision in a snapshot that holds another, and find neither.
        """
        return state is not None and state == self.state and state == self._last(connection)

    @staticmethod
    def touch(connection: sqlite3.Connection, document: int) -> None:
        """Says that vectors of a document were written, where the document itself was not. Inside a transaction."""
        connection.execute("DELETE FROM changes WHERE document = ?", (document,))
        connection.execute("INSERT INTO changes (document) VALUES (?)", (document,))

    def follow(self, connection: sqlite3.Connection) -> None:
        """Loads the documents that changed since the last time."""
        query = "SELECT number, document FROM changes WHERE number > ? ORDER BY number"
        changed = connection.execute(query, (self._seen,)).fetchall()
        if not changed:
            return
        self.state = None  # memory changes: it is no revision's until all is loaded
        for _, document in changed:
            rows = list(database.load_rows(connection, document))
            self._vectors.replace(document, rows, database.load_acls(connection, rows[0].acl) if rows else {})
        self.state = self._seen = changed[-1][0]

    @staticmethod
    def _last(connection: sqlite3.Connection) -> int:
        (number,) = connection.execute("SELECT coalesce(max(number), 0) FROM changes").fetchone()
        return int(number)
