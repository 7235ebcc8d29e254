"""How many multiply-accumulates an operator makes of operands of known shapes."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import onnx_ir as ir

KnownShapeOf = Callable[[ir.Value | None], tuple[int, ...]]
"""Tells the shape of a value, and raises an error if it is unknown."""
Macs = Callable[[ir.Node, KnownShapeOf], int]


def _conv(weight: int) -> Macs:
    """Per output element: weight [out channels, in channels / group, *kernel] without its first dim."""
    return lambda node, shape_of: prod(shape_of(node.outputs[0])) * prod(shape_of(node.inputs[weight])[1:])


def _conv_transpose(node: ir.Node, shape_of: KnownShapeOf) -> int:
    """Per input element: weight [in channels, out channels / group, *kernel] without its first dim."""
    return prod(shape_of(node.inputs[0])) * prod(shape_of(node.inputs[1])[1:])


def _gemm(node: ir.Node, shape_of: KnownShapeOf) -> int:
    rows_first = node.attributes.get_int("transA", 0)
    return prod(shape_of(node.outputs[0])) * shape_of(node.inputs[0])[0 if rows_first else 1]


def _matmul(node: ir.Node, shape_of: KnownShapeOf) -> int:
    return prod(shape_of(node.outputs[0])) * shape_of(node.inputs[0])[-1]


def _recurrent(node: ir.Node, shape_of: KnownShapeOf) -> int:
    """Per step and batch entry: W [directions, gates * hidden, input] and R [same, same, hidden]."""
    steps_times_batch = prod(shape_of(node.inputs[0])[:2])
    return steps_times_batch * (prod(shape_of(node.inputs[1])) + prod(shape_of(node.inputs[2])))


def _attention(node: ir.Node, shape_of: KnownShapeOf) -> int:
    """Q Kᵀ and its product with V, whether heads are a dim of their own or not."""
    kv_length = shape_of(node.inputs[1])[-2]
    return kv_length * (prod(shape_of(node.inputs[0])) + prod(shape_of(node.outputs[0])))


def _einsum(node: ir.Node, shape_of: KnownShapeOf) -> int:
    """One per point of the space that all labels span (dims under `...` as one label each)."""
    terms = node.attributes["equation"].as_string().replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, value in zip(terms, node.inputs, strict=True):
        shape = list(shape_of(value))
        head, dots, tail = term.partition("...")
        hidden = len(shape) - len(head) - len(tail)
        labels = [*head, *(f".{hidden - i}" for i in range(hidden if dots else 0)), *tail]
        for label, size in zip(labels, shape, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    return prod(sizes.values())


MACS: dict[str, Macs] = {
    "Conv": _conv(weight=1),
    "ConvInteger": _conv(weight=1),
    "DeformConv": _conv(weight=1),
    "QLinearConv": _conv(weight=3),
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
    "Einsum": _einsum,
    "Attention": _attention,
    "RNN": _recurrent,
    "LSTM": _recurrent,
    "GRU": _recurrent,
}
