"""Fuse the product of a value and the Tanh of its Softplus into Mish.

    x · Tanh(Softplus(x))         ⇒   Mish(x)
    x · Tanh(Log(Exp(x) + 1))     ⇒   Mish(x)

Source: Misra 2019, arXiv:1908.08681, equation 1. The second form is as good as the first, although Exp
overflows: Tanh makes 1 of infinity. (Log(Exp(x) + 1) alone stays: it gives infinity where Softplus gives x.)

Mish came with opset 18. onnxruntime computes it as the three operators of the first form.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import any_of, const, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._scalars import FLOATS, is_number

_SOFTPLUS = any_of(
    op("Softplus", var("x")),
    op("Log", op("Add", op("Exp", var("x")), const("one"))),
)


def guard(m: Match) -> str | None:
    """Keep out of dtypes without a Softplus."""
    if m.opset < 18:
        return "Mish came with opset 18"
    if m["x"].dtype not in FLOATS:
        return "onnxruntime has no Mish of this dtype"
    if m.get("one") is not None and not is_number(m, "one", 1.0, m["x"]):
        return "other constants"
    return None


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the Mish."""
    return new.op("Mish", m["x"])


RULE = Rule("fuse_mish", op("Mul", var("x"), op("Tanh", _SOFTPLUS)), replace, guard)
