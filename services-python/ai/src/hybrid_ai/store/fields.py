"""Documents' metadata: what is stored of it, and which documents a filter means.

Filters are evaluated before anything is ranked, like the access rule.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A text, a number, a truth, or several texts.
Value = str | float | bool | list[str]


@dataclass(frozen=True)
class Filter:
    """One condition. `values` are alternatives, of one kind; none: the key must be there. A range is [low, high]."""

    key: str
    values: tuple[str | float | bool, ...] = ()
    between: tuple[float, float] | None = None
    negate: bool = False


def rows(metadata: Mapping[str, Value]) -> Iterator[tuple[str, str, str | float]]:
    """(key, kind, value) of every value."""
    for key, value in metadata.items():
        for single in dict.fromkeys(value) if isinstance(value, list) else [value]:
            yield key, _kind(single), _stored(single)


def matching(connection: sqlite3.Connection, filters: Sequence[Filter]) -> list[tuple[NDArray[np.int64], bool]]:
    """For each filter the documents that fulfil its condition, and whether they are those to leave out."""
    return [(_documents(connection, condition), condition.negate) for condition in filters]


def _documents(connection: sqlite3.Connection, condition: Filter) -> NDArray[np.int64]:
    where, parameters = "key = ?", list[str | float]([condition.key])
    if condition.between is not None:
        where += " AND kind = 'number' AND value BETWEEN ? AND ?"
        parameters += condition.between
    elif condition.values:
        marks = ", ".join("?" * len(condition.values))
        where += f" AND kind = ? AND value IN ({marks})"
        parameters += [_kind(condition.values[0]), *(_stored(value) for value in condition.values)]
    rows = connection.execute(f"SELECT DISTINCT document FROM fields WHERE {where}", parameters)
    return np.fromiter((row[0] for row in rows), np.int64)


def _kind(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "text" if isinstance(value, str) else "number"


def _stored(value: str | float | bool) -> str | float:
    return value if isinstance(value, str) else float(value)
