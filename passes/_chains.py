"""Shared by the merges: the parameters of two operators in a row, in the spelling of any opset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.analysis.symbolic import dims_of
from fuseonnx.core.builder import Attributes, Builder
from fuseonnx.core.constants import array_of, is_const
from fuseonnx.core.rule import Match

AXES_ARE_INPUTS = 13
"""The opset from which Squeeze, Unsqueeze, Split and ReduceSum take their axes or sizes as an input."""
TO_THE_END = 2**31 - 1
"""A bound of a Slice from which on it means "up to the end", as exporters write it."""


def has_input(node: ir.Node, index: int) -> bool:
    """Whether an optional input is there."""
    return index < len(node.inputs) and node.inputs[index] is not None


def integers(node: ir.Node, name: str, index: int) -> list[int] | None:
    """Return integers that are an attribute in some opsets and an input in others.

    None if they are absent, or not known before the model runs.
    """
    if has_input(node, index):
        value = node.inputs[index]
        return [int(each) for each in array_of(value).reshape(-1)] if value and is_const(value) else None
    attribute = node.attributes.get(name)
    return None if attribute is None or attribute.is_ref() else list(attribute.as_ints())


def counted(axes: Sequence[int], of: int | None) -> list[int] | None:
    """Return axes counted from the front, sorted; None if that takes a rank that is unknown."""
    if of is None:
        return None if min(axes, default=0) < 0 else sorted(axes)
    return sorted(axis % of for axis in axes) if of else []


def same_axis(first: ir.Node, second: ir.Node, default: int) -> bool:
    """Whether the attribute `axis` of two nodes, whose results have one rank, means the same axis."""
    a, b = (node.attributes.get("axis") for node in (first, second))
    if (a is not None and a.is_ref()) or (b is not None and b.is_ref()):
        return False
    left, right = (default if each is None else each.as_int() for each in (a, b))
    if left == right:
        return True
    axes = rank(first.outputs[0]) or rank(second.outputs[0])
    return axes is not None and left % axes == right % axes


def same_dim(a: ir.Value | None, i: int, b: ir.Value | None, j: int) -> bool:
    """Whether axis i of `a` and axis j of `b` surely have one size, which may be a symbol."""
    left, right = dims_of(a), dims_of(b)
    return left is not None and right is not None and left[i] == right[j]


def others_use(m: Match, name: str) -> bool:
    """Whether the first output of a captured node has users besides the root."""
    output = m.node(name).outputs[0]
    return output.is_graph_output() or any(user is not m.root for user in output.consumers())


def with_axes(
    m: Match, new: Builder, op_type: str, x: ir.Value, axes: Sequence[int], like: ir.Node | None = None
) -> ir.Value:
    """Build a Squeeze or Unsqueeze in the spelling of the opset."""
    if m.opset < AXES_ARE_INPUTS:
        attributes: Attributes = {"axes": list(axes)}
        return new.op(op_type, x, attributes=attributes, like=like)
    return new.op(op_type, x, int64s(new, axes), like=like)


def int64s(new: Builder, numbers: Sequence[int]) -> ir.Value:
    """Add a list of integers as a constant."""
    return new.const(np.array(numbers, dtype=np.int64))


def flattened(m: Match, *, along_axis: bool) -> list[ir.Value | None]:
    """Return the inputs of the root; of the same operator that it alone reads, the inputs in its place."""
    inputs: list[ir.Value | None] = []
    for value in m.root.inputs:
        inner = value.producer() if value is not None else None
        inputs.extend(inner.inputs if inner is not None and _is_part(m, inner, along_axis) else (value,))
    return inputs


def _is_part(m: Match, inner: ir.Node, along_axis: bool) -> bool:
    output = inner.outputs[0]
    return (
        inner.op_type == m.root.op_type
        and not inner.domain
        and inner.graph is m.root.graph
        and not inner.device_configurations
        and not output.is_graph_output()
        and all(user is m.root for user in output.consumers())
        and (not along_axis or same_axis(inner, m.root, 1))
    )
