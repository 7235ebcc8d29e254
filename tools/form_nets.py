"""Forms of the same computation as models of their own, for tools/bench_forms.py to time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


def f32(number: float) -> np.ndarray:
    """Return a float32 number as a tensor."""
    return np.array(number, np.float32)


class Net:
    """Collects the nodes and weights of a model `x` to `y`, float32; `dims` are those of `x`."""

    def __init__(self, *dims: int | str, opset: int = 17) -> None:
        self._opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        self._x = helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self._rng = np.random.default_rng(0)

    def op(self, type_: str, *inputs: str | np.ndarray, outputs: int = 1, **attributes: object) -> list[str]:
        """Add a node; arrays become weights."""
        names = []
        for value in inputs:
            if not isinstance(value, str):
                name = f"w{len(self.weights)}"
                self.weights[name] = value
                value = name  # noqa: PLW2901
            names.append(value)
        results = [f"v{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(type_, names, results, **attributes))
        return results

    def random(self, *shape: int) -> np.ndarray:
        """Return small random weights, the same for every form."""
        return self._rng.normal(0, 0.05, shape).astype(np.float32)

    def session(self, result: str) -> onnxruntime.InferenceSession:
        """Open the model on one thread."""
        self.nodes.append(helper.make_node("Identity", [result], ["y"]))
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        weights = [numpy_helper.from_array(array, name) for name, array in self.weights.items()]
        graph = helper.make_graph(self.nodes, "form", [self._x], [y], weights)
        model = helper.make_model(graph, opset_imports=self._opsets, ir_version=10)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


Heads = tuple[int, int, int]
"""Positions, heads, numbers a head."""
Form = Callable[[Net, str, Heads], tuple[str, str]]
"""Adds, to a net and rows [positions, width], what gives attention scores before Softmax, and V."""

BY_HEAD, BY_COLUMN = [0, 2, 1, 3], [0, 2, 3, 1]


def attention(heads: Heads, form: Form) -> onnxruntime.InferenceSession:
    """Self-attention with one way to make scores and V."""
    positions, width = heads[0], heads[1] * heads[2]
    net = Net("batch", positions, width)
    (rows,) = net.op("Reshape", "x", np.array([-1, width]))
    scores, v = form(net, rows, heads)
    (weighted,) = net.op("MatMul", net.op("Softmax", scores, axis=-1)[0], v)
    (moved,) = net.op("Transpose", weighted, perm=BY_HEAD)
    return net.session(net.op("Reshape", moved, np.array([-1, positions, width]))[0])


def three_products(net: Net, rows: str, heads: Heads) -> tuple[str, str]:
    """Q, K and V from a product each, Q·Kᵀ."""
    q, k, v = _three(net, rows, heads, (BY_HEAD, BY_COLUMN, BY_HEAD))
    return net.op("MatMul", q, k)[0], v


def keys_times_queries(net: Net, rows: str, heads: Heads) -> tuple[str, str]:
    """As Keras: (K·Qᵀ)ᵀ."""
    q, k, v = _three(net, rows, heads, (BY_COLUMN, BY_HEAD, BY_HEAD))
    return net.op("Transpose", net.op("MatMul", k, q)[0], perm=[0, 1, 3, 2])[0], v


def wide_and_split(net: Net, rows: str, heads: Heads) -> tuple[str, str]:
    """Q, K and V from one wide product, split by heads."""
    positions, count, size = heads
    (split,) = net.op("Reshape", _wide(net, rows, heads), np.array([-1, positions, 3 * count, size]))
    (moved,) = net.op("Transpose", split, perm=BY_HEAD)
    q, k, v = net.op("Split", moved, np.array([count] * 3), outputs=3, axis=1)
    return net.op("MatMul", q, net.op("Transpose", k, perm=[0, 1, 3, 2])[0])[0], v


def wide_and_gathers(net: Net, rows: str, heads: Heads) -> tuple[str, str]:
    """As PyTorch's packed projection: Q, K and V gathered from one wide product."""
    positions, count, size = heads
    (packed,) = net.op("Reshape", _wide(net, rows, heads), np.array([-1, positions, 3, count, size]))
    q, k, v = (
        net.op("Transpose", net.op("Gather", packed, np.array(index), axis=2)[0], perm=perm)[0]
        for index, perm in enumerate((BY_HEAD, BY_COLUMN, BY_HEAD))
    )
    return net.op("MatMul", q, k)[0], v


def masked(heads: Heads, hidden: float, *, floor: bool) -> onnxruntime.InferenceSession:
    """Self-attention to the positions before, with a floor under the scores of the others or without."""
    mask = np.where(np.tri(heads[0], dtype=bool), 0, hidden).astype(np.float32)

    def form(net: Net, rows: str, heads: Heads) -> tuple[str, str]:
        scores, v = three_products(net, rows, heads)
        (scores,) = net.op("Add", scores, mask)
        if floor:
            (best,) = net.op("ReduceMax", scores, axes=[-1])
            (scores,) = net.op("Clip", net.op("Sub", scores, best)[0], f32(-72))
        return scores, v

    return attention(heads, form)


def guarded(heads: Heads, *, late: bool) -> onnxruntime.InferenceSession:
    """Self-attention of which the rows that are NaN become 0, before the product with V or after it."""
    positions, width = heads[0], heads[1] * heads[2]
    net = Net("batch", positions, width)
    scores, v = three_products(net, net.op("Reshape", "x", np.array([-1, width]))[0], heads)
    zeros: str | np.ndarray = f32(0)
    (value,) = net.op("Softmax", scores, axis=-1)
    if late:
        (value,) = net.op("MatMul", value, v)
        (zeros,) = net.op("ReduceSum", net.op("Mul", v, f32(0))[0], np.array([-2]))
    (value,) = net.op("Where", net.op("IsNaN", value)[0], zeros, value)
    if not late:
        (value,) = net.op("MatMul", value, v)
    (moved,) = net.op("Transpose", value, perm=BY_HEAD)
    return net.session(net.op("Reshape", moved, np.array([-1, positions, width]))[0])


def one_operator(heads: Heads) -> onnxruntime.InferenceSession:
    """Self-attention as com.microsoft.MultiHeadAttention."""
    positions, count, size = heads
    net = Net("batch", positions, count * size)
    (rows,) = net.op("Reshape", "x", np.array([-1, count * size]))
    stacks = [
        net.op("Reshape", each, np.array([-1, positions, count * size]))[0]
        for each in _linear(net, rows, heads)
    ]
    domain = "com.microsoft"
    return net.session(net.op("MultiHeadAttention", *stacks, domain=domain, num_heads=count, scale=1.0)[0])


def _three(net: Net, rows: str, heads: Heads, perms: Sequence[list[int]]) -> list[str]:
    positions, count, size = heads
    products = _linear(net, rows, heads)
    split = [net.op("Reshape", each, np.array([-1, positions, count, size]))[0] for each in products]
    return [net.op("Transpose", each, perm=perm)[0] for each, perm in zip(split, perms, strict=True)]


def _linear(net: Net, rows: str, heads: Heads) -> list[str]:
    weights = zip(*_weights(net, heads[1] * heads[2]), strict=True)
    return [net.op("Gemm", rows, *each)[0] for each in weights]


def _wide(net: Net, rows: str, heads: Heads) -> str:
    weights, biases = _weights(net, heads[1] * heads[2])
    return net.op("Gemm", rows, np.concatenate(weights, axis=1), np.concatenate(biases))[0]


def _weights(net: Net, width: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [net.random(width, width) for _ in "qkv"], [net.random(width) for _ in "qkv"]


def two_layers(positions: int, width: int, *, matrix: bool, gelu: bool) -> onnxruntime.InferenceSession:
    """LayerNormalization and two linear layers with Relu or Gelu, on a stack of matrices or on one matrix."""
    net, x = Net("batch", positions, width), "x"
    if matrix:
        (x,) = net.op("Reshape", x, np.array([-1, width]))
    (value,) = net.op("LayerNormalization", x, net.random(width), net.random(width), axis=-1)
    for inputs, outputs in ((width, 4 * width), (4 * width, width)):
        weight, bias = net.random(inputs, outputs), net.random(outputs)
        if matrix:
            (value,) = net.op("Gemm", value, weight, bias)
        else:
            (value,) = net.op("Add", net.op("MatMul", value, weight)[0], bias)
        (value,) = _gelu(net, value) if gelu else net.op("Relu", value)
    (value,) = net.op("Add", x, value)
    return net.session(net.op("Reshape", value, np.array([-1, positions, width]))[0] if matrix else value)


def _gelu(net: Net, x: str) -> list[str]:
    """As exporters spell it; onnxruntime fuses it."""
    (erf,) = net.op("Erf", net.op("Div", x, f32(math.sqrt(2)))[0])
    (product,) = net.op("Mul", x, net.op("Add", erf, f32(1))[0])
    return net.op("Mul", product, f32(0.5))
