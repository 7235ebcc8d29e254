"""Fuse a value over one plus its magnitude into Softsign.

    x / (1 + Abs(x))   ⇒   Softsign(x)

Source: https://onnx.ai/onnx/operators/onnx__Softsign.html.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import const, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._scalars import FLOATS, is_number


def guard(m: Match) -> str | None:
    """Keep out of other constants, and of dtypes without a Softsign."""
    if m.opset < 7:
        return "arithmetic does not broadcast before opset 7"
    if m["x"].dtype not in FLOATS:
        return "onnxruntime has no Softsign of this dtype"
    return None if is_number(m, "one", 1.0, m["x"]) else "other constants"


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the Softsign."""
    return new.op("Softsign", m["x"])


RULE = Rule(
    "fuse_softsign", op("Div", var("x"), op("Add", op("Abs", var("x")), const("one"))), replace, guard
)
