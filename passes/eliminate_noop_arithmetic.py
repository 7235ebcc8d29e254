"""Drop arithmetic with the neutral element.

x + 0,  x − 0,  x · 1,  x / 1,  x ^ 1,  x ∧ true,  x ∨ false,  x ⊻ false   ⇒   x

So do BitwiseOr and BitwiseXor with 0.

The constant may have any shape that broadcasts to the shape of x. Where x is −0.0, x + 0.0 gives +0.0 and
x stays −0.0; the two are equal, and only a division by them tells them apart.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import constant_tensor
from fuseonnx.core.pattern import const, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._dims import keeps_shape

_NEUTRAL = {
    **{"Add": 0, "Sub": 0, "Mul": 1, "Div": 1, "Pow": 1},
    **{"And": True, "Or": False, "Xor": False, "BitwiseOr": 0, "BitwiseXor": 0},
}

_MAX_ELEMENTS = 1 << 16
"""Larger constants are weights, and not read from disk."""


def guard(m: Match) -> str | None:
    """Keep out unless every element is neutral and the shape stays; before opset 7 broadcasting differs."""
    if m.opset < 7 or constant_tensor(m["c"]).size > _MAX_ELEMENTS:
        return ""
    constant = m.array("c")
    if not (constant == _NEUTRAL[m.root.op_type]).all():
        return ""
    return None if keeps_shape(m["x"], constant.shape) else "the shape may change"


def replace(m: Match, _new: Builder) -> ir.Value:
    """Let the users read x itself."""
    return m["x"]


RULE = Rule(
    "eliminate_noop_arithmetic",
    op(tuple(_NEUTRAL), var("x"), const("c")),
    replace,
    guard,
)
