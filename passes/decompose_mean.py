"""Spell Mean as operators that have CUDA kernels.

    Mean(a, b, …)   ⇒   Sum(a, b, …) / n

for n inputs, which onnxruntime adds in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._gpu import in_float32, number
from fuseonnx.passes._scalars import FLOATS

_BROADCASTS = 8


def guard(m: Match) -> str | None:
    """Keep out of unequal shapes that the opset has no words for, and of a dtype without a kernel."""
    if m.opset < _BROADCASTS:
        return "Sum does not broadcast before opset 8"
    return None if _inputs(m)[0].dtype in FLOATS else "onnxruntime has no Mean of this dtype"


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the sum, and divide it."""

    def mean(values: Sequence[ir.Value]) -> ir.Value:
        return new.op("Div", new.op("Sum", *values), number(new, len(values)))

    return in_float32(new, mean, _inputs(m))


def _inputs(m: Match) -> list[ir.Value]:
    return [value for value in m.root.inputs if value is not None]


RULE = Rule("decompose_mean", op("Mean", each=var("x")), replace, guard)
