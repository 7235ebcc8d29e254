"""Shared: a proof that no element of a value is below 0."""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.constants import array_of, is_const

_MAX_DEPTH = 8
_NEVER_NEGATIVE = frozenset(
    {"Abs", "Exp", "HardSigmoid", "Relu", "Sigmoid", "Softmax", "Softplus", "Sqrt", "ThresholdedRelu"}
)
_KEEP_SIGN = frozenset(
    {
        *("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMax", "ReduceMean"),
        *("Expand", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
    }
)
"""Operators whose result has no element below the least one of their first input, or of 0."""


def is_non_negative(value: ir.Value | None, depth: int = _MAX_DEPTH) -> bool:
    """Whether the nodes that make a value surely leave nothing below 0 in it; NaN may be there."""
    node = value.producer() if value is not None else None
    if node is None or node.domain or depth == 0:
        return False
    if node.op_type in _NEVER_NEGATIVE:
        return not any(attribute.is_ref() for attribute in node.attributes.values()) and _alpha_is_positive(
            node
        )
    if node.op_type == "Clip":
        return _least_is_non_negative(node)
    if node.op_type in _KEEP_SIGN:
        return is_non_negative(node.inputs[0], depth - 1)
    if node.op_type in {"Concat", "Add", "Mul"}:
        return all(is_non_negative(each, depth - 1) for each in node.inputs)
    return False


def _alpha_is_positive(node: ir.Node) -> bool:
    """ThresholdedRelu keeps what is above alpha, which may be below 0."""
    return node.op_type != "ThresholdedRelu" or node.attributes.get_float("alpha", 1.0) >= 0


def _least_is_non_negative(clip: ir.Node) -> bool:
    """The bounds are attributes before opset 11; where they cross, the upper one decides."""
    bounds = [clip.attributes.get_float("min", -1.0), clip.attributes.get_float("max", 0.0)]
    for index in (1, 2):
        bound = clip.inputs[index] if len(clip.inputs) > index else None
        if bound is not None:
            bounds[index - 1] = float(array_of(bound).reshape(-1)[0]) if is_const(bound) else -1.0
    return min(bounds) >= 0
