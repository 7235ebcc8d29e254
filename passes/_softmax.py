"""Shared by the fusions of Softmax and LogSoftmax: what they are made of."""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.pattern import maybe, op, var
from fuseonnx.core.rule import Match
from fuseonnx.passes._reduction import kept_axes
from fuseonnx.passes._scalars import FLOATS

_MAXIMUM = op("ReduceMax", var("x"), maybe(var("max axes")), name="max")
SHIFTED = op("Sub", var("x"), _MAXIMUM, name="shifted")
EXPONENTIAL = op("Exp", SHIFTED, name="exponential")
SUM = op("ReduceSum", EXPONENTIAL, maybe(var("sum axes")), name="sum")


def softmax_axis(m: Match) -> int:
    """Return the only axis of the sum."""
    axes = kept_axes(m.node("sum"))
    assert axes is not None
    return axes[0]


def is_not_along_one_axis(m: Match) -> str | None:
    """Return why sum and maximum are not along one axis that Softmax can take, or None."""
    if m.opset < 7:
        return "arithmetic does not broadcast before opset 7"
    if m["x"].dtype not in FLOATS | {ir.DataType.DOUBLE}:
        return "onnxruntime has no Softmax of this dtype"
    axes, maximum = kept_axes(m.node("sum")), m.captures.nodes.get("max")
    if axes is None or len(axes) != 1 or (maximum is not None and kept_axes(maximum) != axes):
        return "it is not along one axis"
    if m.opset < 13 and axes != ((rank(m["x"]) or 0) - 1,):
        return "Softmax is along the last axes before opset 13"
    return None
