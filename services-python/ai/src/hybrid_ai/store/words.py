"""Search by words: BM25 of SQLite's FTS5, within a bound of work, among the passages that a search may see.

FTS5 takes 0.05 µs to find a passage and 1.6 µs to rank it, so a query cannot rank all that has one of its words: its
rarest words choose what is ranked, up to a bound, and the others count in the rank alone. Where even the rarest word
is too frequent, the passages with all of the words are ranked, and the newest with the rarest.
"""

import re
import sqlite3
from collections.abc import Mapping, Sequence

from hybrid_ai.store.schema import TOKENIZER
from hybrid_ai.store.vectors import Selection

# Passages that one query ranks; an index with fewer is ranked whole. 2,000 take 3 to 5 ms.
RANKED = 2000
# Words of more than this share of all passages choose nothing; those of more than half have no weight in BM25.
_FREQUENT, _EVERYWHERE = 0.3, 0.5
_MAX_WORDS = 64
# What is known of how frequent words are is kept until the index has changed by this share.
_DRIFT = 0.1
_MAX_KNOWN = 50_000
# Sorted inside SQLite, because every row that comes out of it takes the interpreter's lock once.
_BEST = (
    "SELECT passage, score FROM (SELECT rowid AS passage, -bm25(words, 2.0, 1.0) AS score FROM words"
    " WHERE words MATCH ? AND rowid BETWEEN ? AND ? AND substr(?, rowid - ?, 1) = x'01' ORDER BY rowid DESC LIMIT ?)"
    " ORDER BY score DESC, passage LIMIT ?"
)
# Marks of FTS5's highlight(): private characters that texts do not have.
_OPEN, _CLOSE = "\ue0f0", "\ue0f1"


class WordIndex:
    """Finds passages by words. Safe to use from several threads, each with its own connection."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._known_at = 0

    def find(
        self, connection: sqlite3.Connection, text: str, selection: Selection, total: int, limit: int
    ) -> list[tuple[int, float]]:
        """Passages of the selection by BM25, best first, as (passage, score). `total`: passages in the index."""
        scores: dict[int, float] = {}
        if len(selection):
            first, flags = selection.flags()
            for match in self._matches(connection, text, selection.share, total):
                rows = connection.execute(
                    _BEST, (match, first, first + len(flags) - 1, flags, first - 1, RANKED, limit)
                )
                for passage, score in rows:
                    scores[passage] = max(score, scores.get(passage, score))
        return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]

    def highlights(
        self, connection: sqlite3.Connection, text: str, passages: Mapping[int, str], total: int
    ) -> dict[int, list[tuple[int, int]]]:
        """Where the query's words are in each passage's text: (start, end) in characters.

        FTS5 marks them in a table that holds these passages alone: it would look each of them up among all.
        """
        words = self._words(connection, text, total)
        if not words or not passages:
            return {}
        connection.execute(f"CREATE VIRTUAL TABLE IF NOT EXISTS temp.shown USING fts5 (text, tokenize='{TOKENIZER}')")
        connection.execute("DELETE FROM temp.shown")
        connection.executemany("INSERT INTO temp.shown (rowid, text) VALUES (?, ?)", passages.items())
        sql = "SELECT rowid, highlight(shown, 0, ?, ?) FROM temp.shown WHERE shown MATCH ?"
        marked = connection.execute(sql, (_OPEN, _CLOSE, _any([word for word, _ in words])))
        return {passage: _spans(text) for passage, text in marked}

    def _matches(self, connection: sqlite3.Connection, text: str, share: float, total: int) -> list[str]:
        """The FTS5 queries whose matches are ranked; `share` of all passages is in the selection."""
        words = self._words(connection, text, total)
        if not words:
            return []
        kept, spent = list[str](), 0.0
        for word, count in words:
            spent += count * share
            if spent <= RANKED and count <= max(RANKED, total * _FREQUENT):
                kept.append(word)
        named = [word for word, _ in words]
        if len(kept) == len(named):
            return [_any(kept)]
        if kept:
            return [f"({_any(kept)}) AND ({_any(named)})"]
        return list(dict.fromkeys((" AND ".join(map(_quoted, named)), _quoted(named[0]))))

    def _words(self, connection: sqlite3.Connection, text: str, total: int) -> list[tuple[str, int]]:
        """The query's words that tell passages apart, rarest first; the rarest of all where none does."""
        counted = self._counted(connection, text, total)
        return [pair for pair in counted if pair[1] <= _most(total)] or counted[:1]

    def _counted(self, connection: sqlite3.Connection, text: str, total: int) -> list[tuple[str, int]]:
        """The query's words that are in the index, rarest first, with the number of their passages."""
        if abs(total - self._known_at) > _DRIFT * self._known_at or len(self._known) > _MAX_KNOWN:
            self._known, self._known_at = {}, total
        known, most = self._known, _most(total) + 1
        counted: list[tuple[str, int]] = []
        for word in list(dict.fromkeys(re.findall(r"\w+", text.lower())))[:_MAX_WORDS]:
            if not known.get(word):  # a word that was not there may be there now
                sql = "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)"
                (known[word],) = connection.execute(sql, (_quoted(word), most)).fetchone()
            if known[word]:
                counted.append((word, known[word]))
        return sorted(counted, key=lambda pair: pair[1])


def _most(total: int) -> int:
    """Words of more passages than this tell nothing."""
    return max(RANKED, int(total * _EVERYWHERE))


def _quoted(word: str) -> str:
    """A word for FTS5, in which nothing is taken for an operator."""
    return f'"{word}"'


def _any(words: Sequence[str]) -> str:
    return " OR ".join(map(_quoted, words))


def _spans(marked: str) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    at = 0
    for part in re.split(f"([{_OPEN}{_CLOSE}])", marked):
        if part == _OPEN:
            spans.append((at, at))
        elif part == _CLOSE:
            spans[-1] = (spans[-1][0], at)
        else:
            at += len(part)
    return spans
