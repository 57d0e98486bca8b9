"""Builds the ONNX graph of a Llama-architecture network, one whose rows do not disturb one another.

The graph reads `tokens` and `positions` [rows, length], writes their keys and values into the caches that it is given,
and returns `logits` at the flat places `at`. Two things make the result for a row bitwise the same in every batch:

- Every attention product is over one token's queries and all places of the cache, so its shape never depends on the
  batch, on how many tokens are read at once, or on how many came from a cache. Places after a token's own are masked;
  they add zeros at the end of the sums, so that more places change nothing either.
- The other products run on constant weights, which onnxruntime packs beforehand; its packed kernels add along the inner
  dimension in one order, however many rows there are.

Cache inputs and outputs share names up to a prefix; bound to the same memory they are updated in place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tts.backends.optional import need

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.backends.embedded.arrays import Doubles
    from tts.backends.embedded.checkpoint import Checkpoint

OPSET = 17
CONTRIBUTED = "com.microsoft"
MASKED = -1e9


class Graph:
    """Nodes and constants as they are added; an added node returns the name of its output."""

    def __init__(self) -> None:
        self.onnx: Any = need("onnx", "export")
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def add(self, kind: str, *inputs: str, outputs: Sequence[str] = (), domain: str = "", **attributes: Any) -> str:
        """Add a node; its first output is returned, named after its place unless `outputs` names it."""
        names = list(outputs) or [f"{kind}.{len(self.nodes)}"]
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names[0]

    def constant(self, name: str, value: Any, kind: type[np.generic] = np.float32) -> str:
        """Add a constant, once."""
        if name not in self.constants:
            array = np.ascontiguousarray(np.asarray(value, dtype=kind))
            self.constants[name] = self.onnx.numpy_helper.from_array(array, name)
        return name

    def shape(self, *sizes: int) -> str:
        """Add a constant of sizes, for reshaping."""
        return self.constant("shape." + ".".join(map(str, sizes)), sizes, np.int64)

    def declare(self, name: str, sizes: Sequence[str | int], *, integer: bool = False, output: bool = False) -> str:
        """Declare an input or an output of the graph."""
        kind = self.onnx.TensorProto.INT64 if integer else self.onnx.TensorProto.FLOAT
        value = self.onnx.helper.make_tensor_value_info(name, kind, list(sizes))
        (self.outputs if output else self.inputs).append(value)
        return name

    def model(self) -> Any:
        """Return the finished ONNX model, checked."""
        helper = self.onnx.helper
        graph = helper.make_graph(self.nodes, "llama", self.inputs, self.outputs, list(self.constants.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIBUTED, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="tts.backends.embedded")
        self.onnx.checker.check_model(model)
        return model


class Llama:
    """Writes one checkpoint into a graph."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.shape = checkpoint.shape
        self.weights = checkpoint.weights
        self.graph = Graph()

    def build(self) -> Any:
        """Return the ONNX model."""
        graph, shape = self.graph, self.shape
        tokens = graph.declare("tokens", ["rows", "length"], integer=True)
        self.positions = graph.declare("positions", ["rows", "length"], integer=True)
        at = graph.declare("at", ["places"], integer=True)
        self._shared_inputs()
        hidden = graph.add("Gather", self._embedding(), tokens)
        normed = self._norm(hidden, "model.layers.0.input_layernorm.weight")
        for layer in range(shape.layers):
            update = self._attention(layer, normed)
            weight = f"model.layers.{layer}.post_attention_layernorm.weight"
            hidden, normed = self._add_and_norm(hidden, update, weight)
            update = self._feed_forward(layer, normed)
            following = f"model.layers.{layer + 1}.input_layernorm.weight"
            weight = following if layer + 1 < shape.layers else "model.norm.weight"
            hidden, normed = self._add_and_norm(hidden, update, weight)
        self._head(normed, at)
        return graph.model()

    def _embedding(self) -> str:
        return self.graph.constant("embedding", self.weights["model.embed_tokens.weight"])

    def _shared_inputs(self) -> None:
        """What every layer reads: where to write in the caches, what to mask, and the rotation table."""
        graph, shape = self.graph, self.shape
        zero = graph.constant("index.zero", 0, np.int64)
        spread = graph.add("Unsqueeze", self.positions, graph.constant("axes.1.3", [1, 3], np.int64))
        heads = graph.constant("index.heads", np.arange(shape.key_heads).reshape(1, -1, 1, 1), np.int64)
        place = graph.add("Add", spread, graph.add("Mul", heads, zero))
        rows = graph.add("Gather", graph.add("Shape", self.positions), zero)
        one = graph.constant("index.one", 1, np.int64)
        counted = graph.add("Range", zero, rows, one)
        row = graph.add("Reshape", counted, graph.shape(-1, 1, 1, 1))
        nothing = graph.add("Mul", place, zero)
        parts = [graph.add("Add", nothing, row), graph.add("Add", nothing, heads), nothing, place]
        self.places = graph.add("Concat", *parts, axis=-1)
        own = graph.add("Unsqueeze", self.positions, graph.constant("axes.1.3.4", [1, 3, 4], np.int64))
        sizes = graph.add("Shape", "keys.0")
        places = graph.add("Gather", sizes, graph.constant("index.places", 3, np.int64))
        later = graph.add("Greater", graph.add("Range", zero, places, one), own)
        self.mask = graph.add("Where", later, graph.constant("masked", MASKED), graph.constant("open", 0.0))
        angles = rotations(shape.context, shape.head_size, shape.rope_base)
        self.rotation = [graph.constant("cosine", np.cos(angles)), graph.constant("sine", np.sin(angles))]

    def _norm(self, hidden: str, weight: str) -> str:
        """Normalise by the root mean square, in standard operators, which onnxruntime fuses into one."""
        graph = self.graph
        squares = graph.add("Pow", hidden, graph.constant("two", 2.0))
        mean = graph.add("ReduceMean", squares, axes=[-1])
        root = graph.add("Sqrt", graph.add("Add", mean, graph.constant("epsilon", self.shape.epsilon)))
        return graph.add("Mul", graph.add("Div", hidden, root), graph.constant(weight, self.weights[weight]))

    def _add_and_norm(self, hidden: str, update: str, weight: str) -> tuple[str, str]:
        """Add `update` to the stream and normalise it; returns the stream and what the next block reads."""
        names = [f"{weight}.normed", "", "", f"{weight}.stream"]
        inputs = hidden, update, self.graph.constant(weight, self.weights[weight])
        kind, epsilon = "SkipSimplifiedLayerNormalization", self.shape.epsilon
        self.graph.add(kind, *inputs, outputs=names, domain=CONTRIBUTED, epsilon=epsilon)
        return names[3], names[0]

    def _attention(self, layer: int, normed: str) -> str:
        graph, shape = self.graph, self.shape
        query, key, value = self._projections(layer, normed)
        keys = self._cached(f"keys.{layer}", key)
        values = self._cached(f"values.{layer}", value)
        scores = graph.add("FusedMatMul", query, keys, domain=CONTRIBUTED, transB=1)
        chances = graph.add("Softmax", graph.add("Add", scores, self.mask), axis=-1)
        mixed = graph.add("Transpose", graph.add("MatMul", chances, values), perm=[0, 2, 1, 3, 4])
        joined = graph.add("Reshape", mixed, graph.shape(0, 0, shape.query_heads * shape.head_size))
        return graph.add("MatMul", joined, self._matrix(f"layers.{layer}.self_attn.o_proj"))

    def _projections(self, layer: int, normed: str) -> tuple[str, str, str]:
        """Queries [rows, key heads, length, group, size]; keys and values [rows, key heads, length, size]."""
        graph, shape = self.graph, self.shape
        prefix = f"model.layers.{layer}.self_attn"
        # The scores' scale goes into the query weights, because the kernels for one query take no factor.
        query = self.weights[f"{prefix}.q_proj.weight"] * np.float32(shape.head_size**-0.5)
        parts = [query, self.weights[f"{prefix}.k_proj.weight"], self.weights[f"{prefix}.v_proj.weight"]]
        joined = graph.constant(f"{prefix}.joined", np.concatenate(parts).T)
        heads = graph.shape(0, 0, shape.query_heads + 2 * shape.key_heads, shape.head_size)
        projected = graph.add("Reshape", graph.add("MatMul", normed, joined), heads)
        by_head = graph.add("Transpose", projected, perm=[0, 2, 1, 3])
        turning, value = self._split(by_head, [shape.query_heads + shape.key_heads, shape.key_heads], axis=1)
        turned = graph.add("RotaryEmbedding", turning, self.positions, *self.rotation, domain=CONTRIBUTED)
        queries, key = self._split(turned, [shape.query_heads, shape.key_heads], axis=1)
        group = shape.query_heads // shape.key_heads
        grouped = graph.add("Reshape", queries, graph.shape(0, shape.key_heads, group, -1, shape.head_size))
        return graph.add("Transpose", grouped, perm=[0, 1, 3, 2, 4]), key, value

    def _cached(self, name: str, update: str) -> str:
        """Write keys or values into their cache."""
        shape = self.shape
        sizes: list[str | int] = ["rows", shape.key_heads, 1, "places", shape.head_size]
        before = self.graph.declare(name, sizes)
        after = self.graph.declare(f"new.{name}", sizes, output=True)
        return self.graph.add("ScatterND", before, self.places, update, outputs=[after])

    def _feed_forward(self, layer: int, normed: str) -> str:
        graph, prefix = self.graph, f"model.layers.{layer}.mlp"
        parts = [self.weights[f"{prefix}.gate_proj.weight"], self.weights[f"{prefix}.up_proj.weight"]]
        joined = graph.add("MatMul", normed, graph.constant(f"{prefix}.joined", np.concatenate(parts).T))
        gate, up = self._split(joined, [self.shape.feed_forward] * 2, axis=2)
        opened = graph.add("QuickGelu", gate, domain=CONTRIBUTED, alpha=1.0)  # with this factor it is SiLU
        return graph.add("MatMul", graph.add("Mul", opened, up), self._matrix(f"layers.{layer}.mlp.down_proj"))

    def _head(self, normed: str, at: str) -> None:
        graph, shape = self.graph, self.shape
        flat = graph.add("Reshape", normed, graph.shape(-1, shape.hidden))
        read = graph.add("Gather", flat, at)
        names = {"language": "lm_head", "classes": "score"}
        weight = self.weights.get(f"{names[shape.head]}.weight")
        # Without a matrix of its own, the head is the embedding, so that the file holds it once.
        matrix = self._embedding() if weight is None else graph.constant("head", weight)
        bias = self.weights.get(f"{names[shape.head]}.bias", np.zeros(shape.outputs, np.float32))
        graph.declare("logits", ["places", shape.outputs], output=True)
        graph.add("Gemm", read, matrix, graph.constant("head.bias", bias), outputs=["logits"], transB=1)

    def _matrix(self, name: str) -> str:
        weight = f"model.{name}.weight"
        return self.graph.constant(weight, self.weights[weight].T)

    def _split(self, whole: str, sizes: list[int], *, axis: int) -> tuple[str, str]:
        names = [f"{whole}.first", f"{whole}.second"]
        self.graph.add("Split", whole, self.graph.shape(*sizes), outputs=names, axis=axis)
        return names[0], names[1]


def rotations(context: int, size: int, base: float) -> Doubles:
    """Angles by which each pair of dimensions turns at each position, as Llama has them."""
    frequencies = base ** (-np.arange(0, size, 2) / size)
    return np.outer(np.arange(context), frequencies)
