"""Spell Mish without Softplus, whose CPU kernel takes the elements one by one.

    Mish(x)                  ⇒   x · (n / (n + 2)),  n = e·(e + 2),  e = Exp(Clip(x, max = 20))
    x · Tanh(Softplus(x))    ⇒   likewise

onnxruntime computes Mish as the three operators of the second form. Tanh(Log(1 + e)) is (1 + e)² - 1 over
(1 + e)² + 1, which is n / (n + 2): a quotient of sums of positive numbers, so no digits are lost. From x = 10
on it rounds to 1 in float32, and Exp need not overflow.
Source of the operator: Misra 2019, arXiv:1908.08681, equation 1.

The seven operators take 0.2 to 0.3 of the time on the CPU; elsewhere they are seven passes instead of three.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import any_of, op, var
from fuseonnx.core.rule import Match, Rule

_CLIP_TAKES_INPUTS = 11
_HIGHEST = 20.0


def guard(m: Match) -> str | None:
    """Keep out of other dtypes, and of opsets whose Clip has no input for the bound."""
    if m.opset < _CLIP_TAKES_INPUTS or m["x"].dtype is not ir.DataType.FLOAT:
        return "it is for float32, since opset 11"
    return None


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the quotient."""
    x, two = m["x"], new.const(np.array(2, np.float32))
    exponential = new.op("Exp", new.op("Clip", x, None, new.const(np.array(_HIGHEST, np.float32))))
    numerator = new.op("Mul", exponential, new.op("Add", exponential, two))
    return new.op("Mul", x, new.op("Div", numerator, new.op("Add", numerator, two)))


RULE = Rule(
    "spell_mish",
    any_of(op("Mish", var("x")), op("Mul", var("x"), op("Tanh", op("Softplus", var("x"))))),
    replace,
    guard,
)
