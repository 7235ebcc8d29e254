"""Spell Tan as a quotient of operators that have CUDA kernels.

    Tan(x)   ⇒   Sin(x) / Cos(x)

Both round relatively to their value, next to a pole too.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._gpu import in_float32
from fuseonnx.passes._scalars import FLOATS


def guard(m: Match) -> str | None:
    """Keep out of what onnxruntime has no kernel for on any device."""
    return None if m["x"].dtype in FLOATS else "onnxruntime has no Tan of this dtype"


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the quotient."""

    def quotient(values: Sequence[ir.Value]) -> ir.Value:
        return new.op("Div", new.op("Sin", *values), new.op("Cos", *values))

    return in_float32(new, quotient, [m["x"]])


RULE = Rule("decompose_tan", op("Tan", var("x")), replace, guard)
