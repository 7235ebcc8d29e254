"""Fuse the distance from the logarithm of a sum of exponentials into LogSoftmax.

    x - ReduceMax(x) - Log(ReduceSum(Exp(x - ReduceMax(x))))   ⇒   LogSoftmax(x)
    x - ReduceLogSumExp(x)                                     ⇒   LogSoftmax(x)

along one axis, before opset 13 the last one. Source: https://onnx.ai/onnx/operators/onnx__LogSoftmax.html.
Log(Softmax(x)) stays: it is -∞ where the Softmax underflows, and LogSoftmax is not.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import any_of, maybe, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._softmax import SHIFTED, SUM, is_not_along_one_axis, softmax_axis

guard = is_not_along_one_axis


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the LogSoftmax."""
    return new.op("LogSoftmax", m["x"], attributes={"axis": softmax_axis(m)})


RULE = Rule(
    "fuse_log_softmax",
    any_of(
        op("Sub", SHIFTED, op("Log", SUM)),
        op("Sub", var("x"), op("ReduceLogSumExp", var("x"), maybe(var("sum axes")), name="sum")),
    ),
    replace,
    guard,
)
