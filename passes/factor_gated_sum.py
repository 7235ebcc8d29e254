"""Add one to a small gate instead of adding a large value to its product with the gate.

    x: [n, c, h, w] ─┬─ Mul(g: [n, c, 1, 1]) ─ Add   ⇒   g ─ Add(1)
                     └──────────────────────────┘        x ─ Mul ─┘

x + x·g = x·(g + 1). Residual squeeze-and-excitation blocks are written so (PP-OCR's neck).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.content import is_one
from fuseonnx.analysis.symbolic import dims_of
from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import is_const
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule

_ARITHMETIC_BROADCASTS = 7


def guard(m: Match) -> str | None:
    """Keep out unless the gate is smaller than what it multiplies, and has no axis of its own."""
    x, g = m["x"], m["g"]
    if m.opset < _ARITHMETIC_BROADCASTS:
        return "arithmetic does not broadcast before opset 7"
    if x.dtype is None or not x.dtype.is_floating_point():
        return "the type is not a float"
    if is_const(g):
        return ""
    sizes, dims = dims_of(x), dims_of(g)
    if sizes is None or dims is None or len(dims) > len(sizes):
        return "the shapes are unknown, or the gate is the larger one"
    met = list(zip(reversed(dims), reversed(sizes), strict=False))
    if not all(is_one(dim) or dim == size for dim, size in met):
        return "the gate may widen the product"
    return None if not dims or any(dim != size for dim, size in met) else "the gate is not smaller"


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the larger gate, and the product with it."""
    assert m["x"].dtype is not None
    one = new.const(np.array(1, m["x"].dtype.numpy()))
    return new.op("Mul", m["x"], new.op("Add", m["g"], one), like=m.node("product"))


RULE = Rule(
    "factor_gated_sum", op("Add", var("x"), op("Mul", var("x"), var("g"), name="product")), replace, guard
)
"""x + x·g; the matcher tries both orders of both operators."""
