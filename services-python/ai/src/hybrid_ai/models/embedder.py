"""The embedder: all-MiniLM-L6-v2 in int8 on onnxruntime, and its tokenizer.

Vectors have length 1; a text's vector does not depend on the other texts of its batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

# onnxruntime would report its use to its makers; nothing here leaves the machine unasked.
onnxruntime.disable_telemetry_events()

MODEL_NAME = "all-MiniLM-L6-v2"
DIMENSIONS = 384
WINDOW = 256
_SEPARATOR = 102

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Encoding:
    """A text as tokens, at most WINDOW of them, [CLS] and [SEP] included."""

    ids: list[int]
    truncated: bool


class TextTokenizer:
    """Turns texts into tokens. Safe to use from several threads."""

    def __init__(self, models_dir: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(models_dir / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """The tokens that the model reads of each text."""
        encodings: list[Encoding] = []
        for encoded in self._tokenizer.encode_batch_fast(list(texts)):
            ids = encoded.ids
            truncated = len(ids) > WINDOW
            encodings.append(Encoding([*ids[: WINDOW - 1], _SEPARATOR] if truncated else ids, truncated))
        return encodings

    def count(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, without [CLS] and [SEP]."""
        return [
            len(encoded.ids) for encoded in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        ]

    def token_ends(self, text: str) -> list[int]:
        """Where each token ends, in characters of the text."""
        return [end for _, end in self._tokenizer.encode(text, add_special_tokens=False).offsets]


class Embedder:
    """Runs the model, each call on the caller's thread alone; several may call at once.

    A batch for each core costs less of it than one batch on all cores, whose threads wait for each other.
    """

    def __init__(self, models_dir: Path, engines_own_settings: bool = False) -> None:
        """With `engines_own_settings` it runs as onnxruntime does by itself, for where nothing else runs."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if not engines_own_settings:
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.enable_cpu_mem_arena = False  # it keeps the largest batch's memory, which others could use
        file = str(models_dir / "minilm.int8.onnx")
        self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def embed(self, batch: Sequence[Encoding]) -> Vectors:
        """The vectors of a batch, (len(batch), 384); shorter texts are padded to the longest."""
        width = max(len(encoding.ids) for encoding in batch)
        ids = np.zeros((len(batch), width), np.int32)
        mask = np.zeros((len(batch), width), np.int32)
        for row, encoding in enumerate(batch):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        (vectors,) = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        return np.asarray(vectors, np.float32)
