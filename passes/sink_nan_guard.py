"""Replace the rows of attention that are NaN after the product with V, where there are fewer columns.

p = Softmax(x) ─ Where(IsNaN(p), 0, p) ─ MatMul(v) ─ y
    ⇒   p ─ MatMul(v) ─ q ─ Where(IsNaN(q), ReduceSum(0 · v), q) ─ y

PyTorch writes the guard for rows of scores that are -inf throughout. Softmax makes a row NaN as a whole or
not at all, so that a row of q is NaN where that of p is. What else is NaN in q is so because v holds NaN or
an infinity in that column; then 0 · v is NaN there as well. The sum of it is what zeros times v gave before.
docs/forms.md has the times.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.expr import Number
from fuseonnx.analysis.symbolic import dims_of
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import const, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._scalars import is_number

_SOFTMAX_ALONG_ONE_AXIS = 13


def guard(m: Match) -> str | None:
    """Keep out unless rows of Softmax are guarded against NaN by 0, and the product is narrower."""
    p, softmax = m["p"], m["p"].producer()
    weights, values = dims_of(p), dims_of(m["v"])
    if m.opset < _SOFTMAX_ALONG_ONE_AXIS or p.dtype is not ir.DataType.FLOAT:
        return "it is for float32, since opset 13"
    if weights is None or values is None or len(values) < 2:
        return "the operands of the product are not known to be matrices"
    if softmax is None or softmax.op_type != "Softmax" or softmax.domain:
        return "what may be NaN is no Softmax"
    if softmax.attributes.get_int("axis", -1) not in (-1, len(weights) - 1):
        return "Softmax is not along the rows"
    if not is_number(m, "zero", 0.0, p):
        return "NaN becomes something other than 0"
    if _is_no_narrower(values[-1], weights[-1]):
        return "the product is no narrower"
    return None


def replace(m: Match, new: Builder) -> ir.Value:
    """Multiply first; where the product is NaN put what zeros times v are."""
    v = m["v"]
    product = new.op("MatMul", m["p"], v, like=m.root)
    nothing = new.op("Mul", v, new.const(np.array(0, np.float32)))
    zeros = new.op("ReduceSum", nothing, new.const(np.array([-2])))
    test = new.op("IsNaN", product, like=m.node("test"))
    return new.op("Where", test, zeros, product, like=m.node("guard"))


def _is_no_narrower(columns: Number, keys: Number) -> bool:
    return isinstance(columns, int) and isinstance(keys, int) and columns >= keys


_GUARDED = op("Where", op("IsNaN", var("p"), name="test"), const("zero"), var("p"), name="guard")
RULE = Rule("sink_nan_guard", op("MatMul", _GUARDED, var("v")), replace, guard)
