"""Vectors in memory, one row for each passage, with the columns that decide what a search may see.

Vectors are kept in 8 bits, a scale for each, and compared exactly, all of them: 100,000 take 40 MB and 5 ms of one
core (docs/decisions/0010). Rows are only ever appended, overwritten whole or marked dead, and larger or smaller arrays
are made beside the old ones: a search works on the arrays it took, while documents come and go.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numkong
import numpy as np
from numpy.typing import NDArray

from hybrid_ai import telemetry
from hybrid_ai.models.embedder import DIMENSIONS, Vectors
from hybrid_ai.store.access import Access, Subjects
from hybrid_ai.store.database import Row

_FIRST_CAPACITY = 256
# Below this share of readable rows they are gathered first; above it all are compared.
_GATHER_SHARE = 0.25

Documents = NDArray[np.int64]
_NOTHING = (np.empty((0, DIMENSIONS), np.int8), np.empty(0, np.float32))


class _Columns:
    """The arrays of one generation. `dead` marks rows of documents that were replaced or deleted."""

    def __init__(self, capacity: int) -> None:
        self.vectors = np.zeros((capacity, DIMENSIONS), np.int8)
        self.scales = np.zeros(capacity, np.float32)
        self.passages = np.zeros(capacity, np.int64)
        self.documents = np.zeros(capacity, np.int64)
        self.acls = np.zeros(capacity, np.int32)
        self.collections = np.zeros(capacity, np.int32)
        self.dead = np.zeros(capacity, np.bool_)

    def copy_from(self, other: "_Columns", rows: "NDArray[np.intp] | slice") -> int:
        """Copies rows of another generation to the start of this one; returns how many."""
        count = len(other.passages[rows])
        for name, array in vars(self).items():
            array[:count] = vars(other)[name][rows]
        return count


@dataclass(frozen=True)
class Scope:
    """What a search is about: who asks, and which documents. No collections: all of them. `exclude` is a key.

    Of `filters`, each is documents and whether these are left out (else: the others are).
    """

    access: Access
    collections: Sequence[str] = ()
    exclude: str = ""
    filters: Sequence[tuple[Documents, bool]] = ()


class Selection:
    """The rows that a search may see, at one moment. Both halves of the retrieval rank these and no others."""

    def __init__(self, columns: _Columns, mask: NDArray[np.bool_]) -> None:
        self._columns = columns
        self._rows = np.flatnonzero(mask)
        self.share = len(self._rows) / len(mask) if len(mask) else 0.0

    def __len__(self) -> int:
        return len(self._rows)

    def nearest(self, query: Vectors, limit: int) -> list[int]:
        """The passages whose vectors are nearest, best first, as their 8 bits tell."""
        columns, rows = self._columns, self._rows
        if len(rows) == 0:
            return []
        (quantized,), _ = quantize(query[np.newaxis])
        if self.share < _GATHER_SHARE:
            scores = _dots(columns.vectors[rows], quantized) * columns.scales[rows]
        else:
            scores = (_dots(columns.vectors[: rows[-1] + 1], quantized) * columns.scales[: rows[-1] + 1])[rows]
        best = np.argpartition(-scores, limit)[:limit] if limit < len(rows) else np.arange(len(rows))
        best = best[np.lexsort((columns.passages[rows[best]], -scores[best]))]
        return [int(passage) for passage in columns.passages[rows[best]]]

    def flags(self) -> tuple[int, bytes]:
        """The first passage's id, and from there a byte for each id: 1 where it may be seen. For SQLite."""
        passages = self._columns.passages[self._rows]
        if len(passages) == 0:
            return 0, b""
        first = int(passages.min())
        flags = np.zeros(int(passages.max()) - first + 1, np.uint8)
        flags[passages - first] = 1
        return first, flags.tobytes()


class VectorIndex:
    """Holds every passage's row. Changed by one thread, searched by many."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._columns = _Columns(_FIRST_CAPACITY)
        self._count = 0
        self._dead = 0
        self._rows: dict[int, range] = {}
        self._keys: dict[str, int] = {}
        self._acls: dict[int, Subjects] = {}
        self._collections: dict[str, int] = {}

    def __len__(self) -> int:
        """How many passages there are."""
        return self._count - self._dead

    def replace(self, document: int, rows: Sequence[Row], acls: Mapping[int, Subjects]) -> None:
        """Puts a document's rows in place of its older ones; no rows remove it."""
        self._make_room(len(rows))
        vectors, scales = quantize(np.stack([row.vector for row in rows])) if rows else _NOTHING
        with self._lock:
            self._acls |= acls
            self._remove(document)
            if rows:
                added = slice(self._count, self._count + len(rows))
                self._columns.vectors[added], self._columns.scales[added] = vectors, scales
                self._append(document, rows)
                self._keys[rows[0].key] = document
        self._compact()
        telemetry.INDEX_PASSAGES.set(len(self))
        telemetry.INDEX_DOCUMENTS.set(len(self._rows))

    def select(self, scope: Scope) -> Selection:
        """What the scope allows."""
        with self._lock:
            columns, count = self._columns, self._count
            mask = ~columns.dead[:count]  # of this moment: rows die later for those that stand behind them
            acls = dict(self._acls)
            wanted = [self._collections[name] for name in scope.collections if name in self._collections]
            excluded = self._keys.get(scope.exclude, -1)
        allowed = np.zeros(max(acls, default=0) + 1, np.bool_)
        allowed[[acl for acl, subjects in acls.items() if scope.access.allows(subjects)]] = True
        mask &= allowed[columns.acls[:count]]
        if scope.collections:
            mask &= np.isin(columns.collections[:count], wanted)
        if excluded >= 0:
            mask &= columns.documents[:count] != excluded
        for documents, negate in scope.filters:
            mask &= np.isin(columns.documents[:count], documents, invert=negate)
        return Selection(columns, mask)

    def _append(self, document: int, rows: Sequence[Row]) -> None:
        columns = self._columns
        for at, row in enumerate(rows, self._count):
            columns.passages[at] = row.passage
            columns.documents[at] = document
            columns.acls[at] = row.acl
            columns.collections[at] = self._collections.setdefault(row.collection, len(self._collections))
        self._rows[document] = range(self._count, self._count + len(rows))
        self._count += len(rows)

    def _remove(self, document: int) -> None:
        rows = self._rows.pop(document, None)
        if rows is not None:
            self._columns.dead[rows.start : rows.stop] = True
            self._dead += len(rows)

    def _make_room(self, more: int) -> None:
        """Copies into larger arrays where needed, while searches go on in the old ones."""
        needed = self._count + more
        if needed > len(self._columns.passages):
            grown = _Columns(max(needed, 2 * self._count))
            grown.copy_from(self._columns, slice(0, self._count))
            with self._lock:
                self._columns = grown

    def _compact(self) -> None:
        """Makes new arrays without the dead rows, once they are more than half."""
        if self._dead < _FIRST_CAPACITY or self._dead * 2 < self._count:
            return
        alive = np.flatnonzero(~self._columns.dead[: self._count])
        fresh = _Columns(max(_FIRST_CAPACITY, 2 * len(alive)))
        count = fresh.copy_from(self._columns, alive)
        starts = dict[int, int]()
        for at, document in enumerate(fresh.documents[:count].tolist()):
            starts.setdefault(document, at)
        with self._lock:
            self._columns, self._count, self._dead = fresh, count, 0
            self._rows = {
                document: range(start, start + len(self._rows[document])) for document, start in starts.items()
            }


def quantize(vectors: Vectors) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Each vector in 8 bits, and what its components have to be multiplied by."""
    scales = np.abs(vectors).max(axis=1, initial=1e-12) / 127
    return np.rint(vectors / scales[:, np.newaxis]).astype(np.int8), scales.astype(np.float32)


def _dots(vectors: NDArray[np.int8], query: NDArray[np.int8]) -> NDArray[np.float32]:
    """The products of whole numbers, which are exact. Runs without Python's lock."""
    products = numkong.cdist(vectors, query[np.newaxis], "dot")
    return np.asarray(products)[:, 0].astype(np.float32)
