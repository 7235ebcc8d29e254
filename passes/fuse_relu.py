"""Fuse the maximum of a value and 0 into Relu.

Max(x, 0)   ⇒   Relu(x)
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import const, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._scalars import FLOATS, scalar


def guard(m: Match) -> str | None:
    """Keep out of other bounds, and of integers, for which onnxruntime has few kernels."""
    if m.opset < 8:
        return "Max does not broadcast before opset 8"
    if m["x"].dtype not in FLOATS | {ir.DataType.DOUBLE}:
        return "onnxruntime has no Relu of this dtype"
    return None if scalar(m, "zero", m["x"]) == 0.0 else "the bound is not 0"


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the Relu."""
    return new.op("Relu", m["x"])


RULE = Rule("fuse_relu", op("Max", var("x"), const("zero")), replace, guard)
