"""What has to be embedded anew because the embedder is another one than when a passage was stored."""

import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hybrid_ai.models.embedder import MODEL_NAME, Vectors

# A long document is renewed in parts, so that a crash costs little.
_AT_ONCE = 64


@dataclass(frozen=True)
class Batch:
    """Passages of one document whose vectors are another model's, and what has to be embedded of them."""

    document: int
    passages: Sequence[int]
    texts: list[str]


def identity_of(models_dir: Path) -> str:
    """The embedder's name, and which weights these are: other weights give other vectors."""
    digest = hashlib.sha256()
    for file in ("minilm.int8.onnx", "tokenizer.json"):
        digest.update((models_dir / file).read_bytes())
    return f"{MODEL_NAME}@{digest.hexdigest()[:16]}"


def outdated(connection: sqlite3.Connection, model: int) -> Batch | None:
    """The next passages that `model` has not embedded; None when there are none."""
    row = connection.execute("SELECT document FROM vectors WHERE model <> ? LIMIT 1", (model,)).fetchone()
    if row is None:
        return None
    rows = connection.execute(
        "SELECT p.id, p.title, p.text FROM vectors v JOIN passages p ON p.id = v.passage"
        " WHERE v.model <> ? AND v.document = ? LIMIT ?",
        (model, row[0], _AT_ONCE),
    ).fetchall()
    return Batch(row[0], [row[0] for row in rows], [embedded_text(title, text) for _, title, text in rows])


def store(connection: sqlite3.Connection, batch: Batch, vectors: Vectors, model: int) -> None:
    """Replaces the vectors of those passages that are still there. Called inside a transaction."""
    connection.executemany(
        "UPDATE vectors SET model = ?, vector = ? WHERE passage = ?",
        [
            (model, vector.astype("<f4").tobytes(), passage)
            for passage, vector in zip(batch.passages, vectors, strict=True)
        ],
    )


def embedded_text(title: str, text: str) -> str:
    """What is embedded of a passage."""
    return f"{title}\n{text}".strip()
