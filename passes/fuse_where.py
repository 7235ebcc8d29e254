"""Fuse a choice between integers that is spelled with products into Where.

    Cast(c) · x + Cast(Not(c)) · y   ⇒   Where(c, x, y)

So tf2onnx spells tf.where of integers. Of floats it stays: 0 · ∞ is NaN.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule

_INTEGERS = frozenset({ir.DataType.INT32, ir.DataType.INT64, ir.DataType.UINT8})
"""For which onnxruntime has both forms."""
_WHERE_CAME_WITH = 9


def guard(m: Match) -> str | None:
    """Keep out of floats."""
    if m.opset < _WHERE_CAME_WITH:
        return "Where came with opset 9"
    if m["c"].dtype is not ir.DataType.BOOL:
        return "the condition is not known to be a bool"
    return None if m["x"].dtype in _INTEGERS else "not known to be integers"


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the Where."""
    return new.op("Where", m["c"], m["x"], m["y"])


RULE = Rule(
    "fuse_where",
    op(
        "Add",
        op("Mul", op("Cast", var("c"), shared=True), var("x")),
        op("Mul", op("Cast", op("Not", var("c"), shared=True), shared=True), var("y")),
    ),
    replace,
    guard,
)
