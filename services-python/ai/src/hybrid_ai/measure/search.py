"""Search over many passages of real text: time of a search without its embedding, recall, memory.

    python -m hybrid_ai.measure search [--json FILE] [--passages N] [--queries N] [--cache FOLDER]

The passages are this machine's documentation (`corpus`); a tenth each belongs to one of ten people, and of every second
file everybody is a reader. The first 32 tokens of each are embedded, so that 100,000 take minutes; with --cache they
are kept for the next run. Queries are runs of words out of passages, which is what people type when they remember some.
"""

import argparse
import asyncio
import hashlib
import itertools
import json
import random
import re
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_ai.identity import EVERYBODY
from hybrid_ai.measure.common import environment, percentiles, say, settings
from hybrid_ai.measure.corpus import passages
from hybrid_ai.models.embedder import DIMENSIONS, Embedder, Encoding, TextTokenizer, Vectors
from hybrid_ai.serving.worker import Timing
from hybrid_ai.store import database
from hybrid_ai.store.access import Access
from hybrid_ai.store.index import DocumentIndex, Mode, Query
from hybrid_ai.store.passages import Passage
from hybrid_ai.store.reindex import identity_of
from hybrid_ai.store.schema import open_database

_TOKENS, _AT_ONCE = 32, 32
_CALLER = Access((frozenset(("person-0", EVERYBODY)),))
_NEAREST = 10
_MODES = (Mode.VECTOR, Mode.TEXT, Mode.HYBRID)
_BARS = {f"search {mode.name.lower()}.p99_ms": "<= 25" for mode in _MODES} | {"vector recall@10": ">= 0.95"}


@dataclass
class _Embedded:
    vectors: Vectors
    timing: Timing


class _Known:
    """Stands in for the embedder's queue: queries are embedded beforehand, so that their time does not count."""

    def __init__(self, tokenizer: TextTokenizer, vectors: dict[str, Vectors]) -> None:
        self.tokenizer = tokenizer
        self.vectors = vectors

    async def embed(self, texts: Sequence[str]) -> _Embedded:
        return _Embedded(np.stack([self.vectors[text] for text in texts]), Timing(0.0, 0.0))


def main(arguments: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="hybrid_ai.measure search", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--cache", type=Path, default=None, help="folder for the passages and their vectors")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        return _measure(Path(folder), options.cache, options.passages, options.queries)


def _measure(folder: Path, cache: Path | None, count: int, queries: int) -> dict[str, Any]:
    models = settings().models_dir
    tokenizer, embedder = TextTokenizer(models), Embedder(models, engines_own_settings=True)
    texts, vectors = _corpus(cache, count, tokenizer, embedder)
    asked = _queries([text for _, text in texts], queries)
    known = dict(zip(asked, _embed(asked, tokenizer, embedder), strict=True))
    say(f"filling an index with {len(texts)} passages")
    visible = _fill(folder, texts, vectors, "measured")
    exact = [np.asarray(visible)[_best(vectors[visible] @ known[query])] + 1 for query in asked]
    del vectors, embedder, texts
    index = DocumentIndex(folder, _Known(tokenizer, known), "measured")  # type: ignore[arg-type]
    figures: dict[str, Any] = {"passages": count, "readable": len(visible), "queries": len(asked)}
    found: dict[Mode, list[list[int]]] = {}
    for mode in _MODES:
        asyncio.run(_search(index, asked[:50], mode))  # page cache, and how frequent words are
        found[mode], times, cpu = asyncio.run(_search(index, asked, mode))
        figures[f"search {mode.name.lower()}"] = percentiles(times, (50, 95, 99))
        figures[f"search {mode.name.lower()}, processor time"] = percentiles(cpu, (50, 95, 99))
    figures["vector recall@10"] = _overlap(found[Mode.VECTOR], [ids.tolist() for ids in exact])
    connection = open_database(folder)
    sample = asked[:100]
    unbounded = [_all_ranked(connection, query, set((np.asarray(visible) + 1).tolist())) for query in sample]
    figures["text overlap@10 with unbounded BM25"] = _overlap(found[Mode.TEXT][: len(sample)], unbounded)
    index.close()
    return figures | environment() | {"bars": _BARS}


def fill_for_memory(folder: Path, count: int) -> None:
    """An index of so many real passages, with vectors of any values: these do not change what it takes."""
    vectors = np.random.default_rng(7).standard_normal((count, DIMENSIONS), np.float32)
    _fill(folder, list(passages(count)), vectors, identity_of(settings().models_dir))


def _corpus(
    cache: Path | None, count: int, tokenizer: TextTokenizer, embedder: Embedder
) -> tuple[list[tuple[str, str]], Vectors]:
    file = cache / f"passages-{count}" if cache else None
    if file and file.with_suffix(".npy").exists():
        return json.loads(file.with_suffix(".json").read_text()), np.load(file.with_suffix(".npy"))
    texts = list(passages(count))
    if len(texts) < count:
        raise SystemExit(f"this machine's documentation has only {len(texts)} passages; --passages {len(texts)} works")
    vectors = _embed([text for _, text in texts], tokenizer, embedder)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_suffix(".json").write_text(json.dumps(texts))
        np.save(file.with_suffix(".npy"), vectors)
    return texts, vectors


def _embed(texts: list[str], tokenizer: TextTokenizer, embedder: Embedder) -> Vectors:
    encodings = [_shortened(encoding) for encoding in tokenizer.encode(texts)]
    order = sorted(range(len(texts)), key=lambda at: len(encodings[at].ids))
    vectors = np.zeros((len(texts), DIMENSIONS), np.float32)
    for start in range(0, len(order), _AT_ONCE):
        rows = order[start : start + _AT_ONCE]
        vectors[rows] = embedder.embed([encodings[row] for row in rows])
        if start % (_AT_ONCE * 100) == 0 and len(order) > 10_000:
            say(f"embedded {start} of {len(order)}")
    return vectors


def _shortened(encoding: Encoding) -> Encoding:
    ids = encoding.ids
    return encoding if len(ids) <= _TOKENS else Encoding([*ids[: _TOKENS - 1], ids[-1]], True)


def _queries(texts: list[str], count: int) -> list[str]:
    chance = random.Random(7)
    queries = dict[str, None]()
    for text in chance.sample(texts, min(len(texts), count * 3)):
        words = re.findall(r"[\w'-]+", text)
        length = chance.randint(2, 8)
        if len(words) >= length and len(queries) < count:
            start = chance.randrange(len(words) - length + 1)
            queries[" ".join(words[start : start + length])] = None
    return list(queries)


def _fill(folder: Path, texts: list[tuple[str, str]], vectors: Vectors, embedder: str) -> list[int]:
    """Writes all documents in one transaction. Returns the positions of the passages that the caller may read."""
    connection = open_database(folder)
    visible, at = list[int](), 0
    with database.Transaction(connection):
        model = database.model_row(connection, embedder)
        for name, group in itertools.groupby(texts, lambda pair: pair[0]):
            parts = [Passage(0, text) for _, text in group]
            lot = hashlib.sha256(f"{name}{at}".encode()).digest()
            subjects = frozenset((f"person-{lot[0] % 10}", *((EVERYBODY,) if lot[1] % 2 else ())))
            document = database.Document(f"{at}/{name}", 1, f"part-{lot[2] % 8}", name, "", "", subjects)
            database.replace(connection, document, parts, vectors[at : at + len(parts)], model)
            if _CALLER.allows(subjects):
                visible += range(at, at + len(parts))
            at += len(parts)
    connection.close()
    return visible


async def _search(
    index: DocumentIndex, queries: list[str], mode: Mode
) -> tuple[list[list[int]], list[float], list[float]]:
    """What each query found, its time in milliseconds, and the processor's share, which a busy machine changes less."""
    found, times, cpu = list[list[int]](), list[float](), list[float]()
    for query in queries:
        started, used = time.perf_counter(), time.process_time()
        hits = await index.search(Query(query, _CALLER, _NEAREST, mode, highlight=True))
        times.append((time.perf_counter() - started) * 1000)
        cpu.append((time.process_time() - used) * 1000)
        found.append([passage.passage for passage, _ in hits.found])
    return found, times, cpu


def _best(scores: Vectors) -> "np.ndarray[Any, np.dtype[np.intp]]":
    return np.argsort(-scores, kind="stable")[:_NEAREST]


def _all_ranked(connection: sqlite3.Connection, query: str, visible: set[int]) -> list[int]:
    """The best by BM25 of everything that has any of the words, without a bound."""
    match = " OR ".join(f'"{word}"' for word in dict.fromkeys(re.findall(r"\w+", query.lower())))
    sql = "SELECT rowid, bm25(words, 2.0, 1.0) AS score FROM words WHERE words MATCH ? ORDER BY score, rowid"
    return [row[0] for row in connection.execute(sql, (match,)) if row[0] in visible][:_NEAREST]


def _overlap(found: list[list[int]], expected: list[list[int]]) -> float:
    shares = [len(set(a[:_NEAREST]) & set(b)) / len(b) for a, b in zip(found, expected, strict=True) if b]
    return round(sum(shares) / len(shares), 4)
