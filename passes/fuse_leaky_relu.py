"""Fuse the maximum of a value and a part of it into LeakyRelu.

    Max(x, 0.1·x)   ⇒   LeakyRelu(x, alpha=0.1)

for a factor between 0 and 1. Source: https://onnx.ai/onnx/operators/onnx__LeakyRelu.html.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import const, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._scalars import FLOATS, scalar


def guard(m: Match) -> str | None:
    """Keep out of factors for which the maximum is on the other side."""
    if m.opset < 8:
        return "Max does not broadcast before opset 8"
    if m["x"].dtype not in FLOATS:
        return "onnxruntime has no LeakyRelu of this dtype"
    alpha = scalar(m, "alpha", m["x"])
    return None if alpha is not None and 0 < alpha < 1 else "the factor is not between 0 and 1"


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the LeakyRelu."""
    return new.op("LeakyRelu", m["x"], attributes={"alpha": float(m.array("alpha").item())})


RULE = Rule("fuse_leaky_relu", op("Max", var("x"), op("Mul", var("x"), const("alpha"))), replace, guard)
