"""Interactions on disk: SQLite with write-ahead log and synchronous=FULL, so what was acknowledged is kept.

A person's key for an interaction is unique: the second one of the same key changes nothing. Used by one thread.
"""

import enum
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_SCHEMA = """
CREATE TABLE interactions (
    id INTEGER PRIMARY KEY, person TEXT NOT NULL, key TEXT NOT NULL, item TEXT NOT NULL, kind INTEGER NOT NULL,
    UNIQUE (person, key));
CREATE INDEX interactions_person ON interactions (person, id);
"""
_VERSION = 1
# Of a person, this many of the latest interactions are read for their profile.
_LATEST = 1_000


class Kind(enum.IntEnum):
    """What somebody did with an item; the numbers are those on disk."""

    CLICK = 1
    LIKE = 2
    DISMISS = 3


@dataclass(frozen=True)
class Interaction:
    """What a person did. `key` is the person's own name for it, `item` the item's key in the catalogue."""

    person: str
    key: str
    item: str
    kind: Kind


class Journal:
    """The file with all interactions."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(folder / "interactions.sqlite3", isolation_level=None, check_same_thread=False)
        self._database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=10000;")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")
        elif version != _VERSION:
            raise RuntimeError(
                f"the interactions in {folder} have version {version}; this program knows version {_VERSION}"
            )

    def add(self, interactions: Sequence[Interaction]) -> list[bool]:
        """Makes them durable together, and says of each whether it is new. An error leaves none of them."""
        statement = "INSERT INTO interactions (person, key, item, kind) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
        self._database.execute("BEGIN IMMEDIATE")
        try:
            new = [
                self._database.execute(statement, (one.person, one.key, one.item, int(one.kind))).rowcount == 1
                for one in interactions
            ]
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")
        return new

    def of(self, person: str) -> list[tuple[str, Kind]]:
        """The latest interactions of a person as (item, kind), oldest first."""
        rows = self._database.execute(
            "SELECT item, kind FROM interactions WHERE person = ? ORDER BY id DESC LIMIT ?", (person, _LATEST)
        ).fetchall()
        return [(item, Kind(kind)) for item, kind in reversed(rows)]

    def latest(self, limit: int) -> int:
        """The id before the latest interactions of everybody: `after` it there are at most `limit`."""
        (last,) = self._database.execute("SELECT coalesce(max(id), 0) FROM interactions").fetchone()
        return max(0, int(last) - limit)

    def after(self, known: int) -> Iterator[tuple[int, Interaction]]:
        """The interactions after that id with theirs, oldest first, whichever process recorded them."""
        rows = self._database.execute(
            "SELECT id, person, key, item, kind FROM interactions WHERE id > ? ORDER BY id", (known,)
        )
        return ((number, Interaction(person, key, item, Kind(kind))) for number, person, key, item, kind in rows)

    def close(self) -> None:
        self._database.close()
