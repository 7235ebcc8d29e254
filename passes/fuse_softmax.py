"""Fuse the exponentials of what lies below the maximum, over their sum, into Softmax.

    Exp(x - ReduceMax(x)) / ReduceSum(Exp(x - ReduceMax(x)))   ⇒   Softmax(x)

along one axis, before opset 13 the last one. Source: https://onnx.ai/onnx/operators/onnx__Softmax.html.
Without the maximum Exp may overflow, which Softmax does not: that form stays.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import any_of, op
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._softmax import EXPONENTIAL, SUM, is_not_along_one_axis, softmax_axis

guard = is_not_along_one_axis


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the Softmax."""
    return new.op("Softmax", m["x"], attributes={"axis": softmax_axis(m)})


RULE = Rule(
    "fuse_softmax",
    any_of(op("Div", EXPONENTIAL, SUM), op("Mul", EXPONENTIAL, op("Reciprocal", SUM))),
    replace,
    guard,
)
