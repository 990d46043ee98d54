"""Converts MiniLM from safetensors to ONNX, in fp32 and in int8, without torch.

The graph is written in the fused operators that onnxruntime runs fastest, with mean pooling and the L2 norm inside,
so that the output is the embedding. The int8 form gives every token (row) a scale of its own: with one scale for
all, as the usual dynamic quantisation has it, a text's vector would depend on the other texts of its batch.
"""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Weights = dict[str, NDArray[np.float32]]
FUSED = "com.microsoft"
EPSILON = 1e-12
HEADS = 12
LAYERS = 6
WINDOW = 256
WEIGHT_LEVELS = 63  # 7 bits, so that AVX2 machines without VNNI do not saturate


def read_safetensors(path: Path) -> Weights:
    """The float tensors of a safetensors file: an 8-byte length, a JSON header, then raw little-endian data."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header: dict[str, Any] = json.loads(raw[8 : 8 + length])
    tensors: Weights = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = (8 + length + at for at in entry["data_offsets"])
            tensors[name] = np.frombuffer(raw[begin:end], "<f4").reshape(entry["shape"])
    return tensors


class _Graph:
    """Collects nodes and initializers. If `quantized`, matrix products are written in int8."""

    def __init__(self, quantized: bool) -> None:
        self.quantized = quantized
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, op: str, inputs: list[str], *outputs: str, domain: str = "", **attributes: Any) -> str:
        """Adds a node and returns the name of its first output."""
        self.nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0], domain=domain, **attributes))
        return outputs[0]

    def matmul(self, source: str, matrix: NDArray[np.float32], name: str) -> str:
        """source · matrixᵀ, where the matrix is (outputs, inputs) as in the file."""
        if not self.quantized:
            return self.add("MatMul", [source, self.constant(f"{name}_weight", matrix.T)], f"{name}_matmul")
        peak = self.add("ReduceMax", [self.add("Abs", [source], f"{name}_abs")], f"{name}_peak", axes=[-1], keepdims=1)
        step = self.add("Mul", [peak, "step"], f"{name}_step")
        scaled = self.add("Div", [source, step], f"{name}_scaled")
        quantized = self.add("QuantizeLinear", [scaled, "one", "middle"], f"{name}_quantized")
        columns = np.abs(matrix.T).max(axis=0) / WEIGHT_LEVELS
        table = self.constant(f"{name}_weight", np.rint(matrix.T / columns).astype(np.int8))
        inputs = [quantized, table, "one", self.constant(f"{name}_scale", columns.astype(np.float32)), "middle"]
        product = self.add("MatMulIntegerToFloat", inputs, f"{name}_product", domain=FUSED)
        return self.add("Mul", [product, step], f"{name}_matmul")


def _layer(graph: _Graph, weights: Weights, index: int, hidden: str) -> str:
    """One transformer layer: attention, residual and norm, feed-forward, residual and norm."""
    base, name = f"encoder.layer.{index}.", f"layer{index}_"

    def weight(key: str) -> NDArray[np.float32]:
        return weights[base + key]

    parts = [f"attention.self.{part}." for part in ("query", "key", "value")]
    packed = graph.matmul(hidden, np.concatenate([weight(part + "weight") for part in parts]), name + "qkv")
    split = [f"{name}{part}" for part in ("query", "key", "value")]
    graph.add("Split", [packed, "thirds"], *split, axis=-1)
    bias = graph.constant(name + "qkv_bias", np.concatenate([weight(part + "bias") for part in parts]))
    inputs = [*split, bias, "attention_mask"]
    attended = graph.add("MultiHeadAttention", inputs, name + "attention", domain=FUSED, num_heads=HEADS)

    def dense(source: str, key: str) -> str:
        return graph.matmul(source, weight(key + ".weight"), name + key)

    def add_and_norm(source: str, residual: str, key: str) -> str:
        scale = graph.constant(f"{name}{key}_gamma", weight(key + ".LayerNorm.weight"))
        shift = graph.constant(f"{name}{key}_beta", weight(key + ".LayerNorm.bias"))
        bias = graph.constant(f"{name}{key}_bias", weight(key + ".dense.bias"))
        inputs = [source, residual, scale, shift, bias]
        return graph.add("SkipLayerNormalization", inputs, f"{name}{key}", domain=FUSED, epsilon=EPSILON)

    mixed = add_and_norm(dense(attended, "attention.output.dense"), hidden, "attention.output")
    bias = graph.constant(name + "gelu_bias", weight("intermediate.dense.bias"))
    activated = graph.add("BiasGelu", [dense(mixed, "intermediate.dense"), bias], name + "gelu", domain=FUSED)
    return add_and_norm(dense(activated, "output.dense"), mixed, "output")


def _pool(graph: _Graph, hidden: str) -> None:
    """Mean over the real tokens, then unit length."""
    graph.constant("tiny", np.array([1e-9], np.float32))
    mask = graph.add("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT)
    weighted = graph.add("Mul", [hidden, graph.add("Unsqueeze", [mask, "axis2"], "mask3")], "weighted")
    total = graph.add("ReduceSum", [weighted, "axis1"], "total", keepdims=0)
    count = graph.add("Max", [graph.add("ReduceSum", [mask, "axis1"], "count", keepdims=1), "tiny"], "count_or_tiny")
    graph.add("LpNormalization", [graph.add("Div", [total, count], "mean")], "embedding", axis=-1, p=2)


def _embed_tokens(graph: _Graph, weights: Weights) -> str:
    """The sum of the word's, the position's and the segment's embedding, normed."""
    words = weights["embeddings.word_embeddings.weight"]
    if graph.quantized:
        scale = np.abs(words).max(axis=1, keepdims=True) / 127
        table = graph.constant("words", np.rint(words / scale).astype(np.int8))
        rows = graph.add("Cast", [graph.add("Gather", [table, "input_ids"], "rows8")], "rows", to=TensorProto.FLOAT)
        scales = graph.add("Gather", [graph.constant("words_scale", scale.astype(np.float32)), "input_ids"], "scales")
        word = graph.add("Mul", [rows, scales], "word")
    else:
        word = graph.add("Gather", [graph.constant("words", words), "input_ids"], "word")
    # Every text is one segment, so the first segment's embedding is folded into the positions'.
    positions = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    tokens = graph.add("Shape", ["input_ids"], "tokens", start=1, end=2)
    table = graph.constant("positions", positions[None, :WINDOW])
    position = graph.add("Slice", [table, graph.constant("zero", np.array([0], np.int64)), tokens, "axis1"], "position")
    scale_shift = [graph.constant(f"embed_{k}", weights[f"embeddings.LayerNorm.{k}"]) for k in ("weight", "bias")]
    inputs = [word, position, *scale_shift]
    return graph.add("SkipLayerNormalization", inputs, "embedded", domain=FUSED, epsilon=EPSILON)


def build(weights: Weights, quantized: bool) -> onnx.ModelProto:
    """The graph: input_ids and attention_mask (int32, batch × tokens) → embedding (float32, batch × 384)."""
    graph = _Graph(quantized)
    graph.constant("axis1", np.array([1], np.int64))
    graph.constant("axis2", np.array([2], np.int64))
    if quantized:
        graph.constant("one", np.array(1, np.float32))
        graph.constant("middle", np.array(128, np.uint8))
        graph.constant("step", np.array(1 / 127, np.float32))
    graph.constant("thirds", np.array([384, 384, 384], np.int64))
    hidden = _embed_tokens(graph, weights)
    for index in range(LAYERS):
        hidden = _layer(graph, weights, index, hidden)
    _pool(graph, hidden)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT32, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 384])
    model = helper.make_model(
        helper.make_graph(graph.nodes, "all-MiniLM-L6-v2", inputs, [output], graph.initializers),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(FUSED, 1)],
    )
    model.ir_version = 8
    return model
