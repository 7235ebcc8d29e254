"""Spell MeanVarianceNormalization as operators that have CUDA kernels.

    MeanVarianceNormalization(x)   ⇒   c / (Sqrt(ReduceMean(c²)) + 1e-9),  c = x - ReduceMean(x)

over its axes. The mean of the squares of c loses no digits to a large mean, as ReduceMean(x²) -
ReduceMean(x)² of the specification would.
Source: https://onnx.ai/onnx/operators/onnx__MeanVarianceNormalization.html.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._gpu import in_float32, number, reduced
from fuseonnx.passes._scalars import FLOATS

_SINCE = 9
_AXES = (0, 2, 3)
_EPSILON = 1e-9


def guard(m: Match) -> str | None:
    """Keep out of another operator of the same name, and of a dtype without a kernel."""
    if m.opset < _SINCE:
        return "onnxruntime has another MeanVarianceNormalization before opset 9"
    return None if m["x"].dtype in FLOATS else "onnxruntime has no MeanVarianceNormalization of this dtype"


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the centred values, and divide them by their standard deviation."""
    axes = m.root.attributes.get_ints("axes", _AXES)

    def normalized(values: Sequence[ir.Value]) -> ir.Value:
        (x,) = values
        centred = new.op("Sub", x, reduced(new, "ReduceMean", x, axes, m.opset))
        square = new.op("Mul", centred, centred)
        deviation = new.op("Sqrt", reduced(new, "ReduceMean", square, axes, m.opset))
        return new.op("Div", centred, new.op("Add", deviation, number(new, _EPSILON)))

    return in_float32(new, normalized, [m["x"]])


RULE = Rule(
    "decompose_mean_variance_normalization", op("MeanVarianceNormalization", var("x")), replace, guard
)
