"""Compares the int8 embedder with the fp32 graph on probe sentences, and the tokenizer with known tokens."""

from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

REQUIRED_COSINE = 0.99
PROBES = (
    "How do I share a note with Bob?",
    "The gateway keeps a client's socket open while a service behind it restarts.",
    "Vectors and words are merged by reciprocal rank fusion.",
    "Une phrase en français, pour voir.",
    "SELECT count(*) FROM notes WHERE owner = 'alice' AND deleted_at IS NULL",
    "An event loop waits for many sockets at once; a batch gathers many requests for one run of a model. " * 8,
)
# "hello world" between [CLS] and [SEP], as the model's vocabulary numbers them.
KNOWN_TEXT, KNOWN_TOKENS = "Hello, world!", [101, 7592, 1010, 2088, 999, 102]


def lowest_cosine(exact: bytes, quantized: Path, tokenizer_file: Path) -> float:
    """The lowest cosine between both models' embeddings over the probes. Raises ValueError on a wrong tokenizer."""
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.enable_truncation(256)
    tokenizer.no_padding()
    if tokenizer.encode(KNOWN_TEXT).ids != KNOWN_TOKENS:
        raise ValueError("the tokenizer does not give the known tokens of a known text")
    models = [
        onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]) for model in (exact, str(quantized))
    ]
    lowest = 1.0
    for probe in PROBES:
        ids = np.array([tokenizer.encode(probe).ids], np.int32)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        first, second = (np.asarray(model.run(None, feed)[0])[0] for model in models)
        lowest = min(lowest, float(first @ second))
    return lowest
