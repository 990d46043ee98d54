"""Vectors in memory, one row for each passage, with the columns that the access filter needs.

Rows are only ever appended or marked dead, and a compaction makes new arrays: a search works on the arrays it took,
without holding the lock, while documents come and go.
"""

import threading
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hybrid_ai import telemetry
from hybrid_ai.models.embedder import DIMENSIONS, Vectors
from hybrid_ai.store.access import Access, Subjects
from hybrid_ai.store.database import Row

_FIRST_CAPACITY = 256
# Below this share of readable rows they are gathered first; above it the whole matrix is multiplied.
_GATHER_SHARE = 0.25


class _Columns:
    """The arrays of one generation. `dead` marks rows of documents that were replaced or deleted."""

    def __init__(self, capacity: int) -> None:
        self.vectors = np.zeros((capacity, DIMENSIONS), np.float32)
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


class VectorIndex:
    """Searches by cosine among what may be read. Changed by one thread, searched by many."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._columns = _Columns(_FIRST_CAPACITY)
        self._count = 0
        self._dead = 0
        self._rows: dict[int, range] = {}
        self._keys: dict[str, int] = {}
        self._acls: dict[int, Subjects] = {}
        self._collections: dict[str, int] = {}

    def replace(self, document: int, rows: Sequence[Row], acls: Mapping[int, Subjects]) -> None:
        """Puts a document's rows in place of its older ones; no rows remove it."""
        with self._lock:
            self._acls |= acls
            self._remove(document)
            if rows:
                self._append(document, rows)
                self._keys[rows[0].key] = document
            self._compact()
            telemetry.INDEX_PASSAGES.set(self._count - self._dead)
            telemetry.INDEX_DOCUMENTS.set(len(self._rows))

    def find(
        self, query: Vectors, access: Access, collection: str, exclude: str, limit: int
    ) -> list[tuple[int, float]]:
        """Passages by cosine, best first, as (passage, cosine). What may not be read is masked before the ranking."""
        with self._lock:
            columns, count = self._columns, self._count
            acls = dict(self._acls)
            wanted = self._collections.get(collection, -1)
            excluded = self._keys.get(exclude, -1)
        if count == 0 or (collection and wanted < 0):
            return []
        allowed = np.zeros(max(acls, default=0) + 1, np.bool_)
        allowed[[acl for acl, subjects in acls.items() if access.allows(subjects)]] = True
        mask = allowed[columns.acls[:count]] & ~columns.dead[:count]
        if collection:
            mask &= columns.collections[:count] == wanted
        if excluded >= 0:
            mask &= columns.documents[:count] != excluded
        rows = np.flatnonzero(mask)
        if len(rows) == 0:
            return []
        if len(rows) < count * _GATHER_SHARE:
            scores = columns.vectors[rows] @ query
        else:
            scores = (columns.vectors[:count] @ query)[rows]
        best = np.argpartition(-scores, limit)[:limit] if limit < len(rows) else np.arange(len(rows))
        best = best[np.lexsort((columns.passages[rows[best]], -scores[best]))]
        return [(int(columns.passages[rows[at]]), float(scores[at])) for at in best]

    def _append(self, document: int, rows: Sequence[Row]) -> None:
        needed = self._count + len(rows)
        if needed > len(self._columns.passages):
            grown = _Columns(max(needed, 2 * self._count))
            grown.copy_from(self._columns, slice(0, self._count))
            self._columns = grown
        columns = self._columns
        for at, row in enumerate(rows, self._count):
            columns.vectors[at] = row.vector
            columns.passages[at] = row.passage
            columns.documents[at] = document
            columns.acls[at] = row.acl
            columns.collections[at] = self._collections.setdefault(row.collection, len(self._collections))
        self._rows[document] = range(self._count, needed)
        self._count = needed

    def _remove(self, document: int) -> None:
        rows = self._rows.pop(document, None)
        if rows is not None:
            self._columns.dead[rows.start : rows.stop] = True
            self._dead += len(rows)

    def _compact(self) -> None:
        """Makes new arrays without the dead rows, once they are more than half."""
        if self._dead < _FIRST_CAPACITY or self._dead * 2 < self._count:
            return
        alive = np.flatnonzero(~self._columns.dead[: self._count])
        fresh = _Columns(max(_FIRST_CAPACITY, 2 * len(alive)))
        self._count = fresh.copy_from(self._columns, alive)
        self._dead = 0
        self._columns = fresh
        starts = dict[int, int]()
        for at, document in enumerate(fresh.documents[: self._count].tolist()):
            starts.setdefault(document, at)
        self._rows = {document: range(start, start + len(self._rows[document])) for document, start in starts.items()}
