"""The embedder: all-MiniLM-L6-v2 in int8 on onnxruntime, and its tokenizer.

Vectors have length 1; a text's vector does not depend on the other texts of its batch.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from hybrid_ai.models import niceness

# onnxruntime would report its use to its makers; nothing here leaves the machine unasked.
onnxruntime.disable_telemetry_events()

MODEL_NAME = "all-MiniLM-L6-v2"
DIMENSIONS = 384
WINDOW = 256
_SEPARATOR = 102
# Where the cores are wanted, the caller's thread does their part.
_HELPERS_NICENESS = 19

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

    A batch for each core costs less of it than one batch on all cores, whose threads wait for each other. A text alone,
    while nothing else runs, is done sooner on all of them: for that the model is loaded once more, 23 MB.
    """

    def __init__(self, models_dir: Path, cores: int = 1, engines_own_settings: bool = False) -> None:
        """`cores` are for a text alone. With `engines_own_settings` everything runs as onnxruntime does by itself."""
        file = str(models_dir / "minilm.int8.onnx")
        self._session = _session(file, 0 if engines_own_settings else 1)
        self._wide = _wide_session(file, cores) if cores > 1 else self._session

    def embed(self, batch: Sequence[Encoding]) -> Vectors:
        """The vectors of a batch, (len(batch), 384); shorter texts are padded to the longest."""
        width = max(len(encoding.ids) for encoding in batch)
        ids = np.zeros((len(batch), width), np.int32)
        mask = np.zeros((len(batch), width), np.int32)
        for row, encoding in enumerate(batch):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        return _run(self._session, ids, mask)

    def embed_alone(self, encoding: Encoding) -> Vectors:
        """The vector of one text, (384,), as soon as may be."""
        ids = np.array([encoding.ids], np.int32)
        vector: Vectors = _run(self._wide, ids, np.ones_like(ids))[0]
        return vector


def _session(file: str, threads: int, keeps_memory: bool = True, **settings: str) -> onnxruntime.InferenceSession:
    """The model on so many threads; 0: as the engine has it by itself.

    If it keeps its memory, a run finds that of the largest one before it, a few megabytes for each thread that runs it:
    asking for it anew each time takes a thirtieth of a batch, and holds as much.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.enable_cpu_mem_arena = keeps_memory
    for name, value in settings.items():
        options.add_session_config_entry(f"session.{name}", value)
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _wide_session(file: str, cores: int) -> onnxruntime.InferenceSession:
    """The model on several cores. Its helpers look for work without pause while it runs, and give way to anybody."""

    def load() -> onnxruntime.InferenceSession:
        niceness.lower(_HELPERS_NICENESS)
        return _session(file, cores, keeps_memory=False, force_spinning_stop="1")

    with ThreadPoolExecutor(1) as starter:  # the helpers inherit what its thread has
        return starter.submit(load).result()


def _run(session: onnxruntime.InferenceSession, ids: NDArray[np.int32], mask: NDArray[np.int32]) -> Vectors:
    (vectors,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
    return np.asarray(vectors, np.float32)
