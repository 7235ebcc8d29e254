"""Drop a strictly monotone operator before ArgMax or ArgMin.

x ─ Neg ─ ArgMax ─ i                   ⇒   x ─ ArgMin ─ i
x: float ─ Cast(double) ─ ArgMax ─ i   ⇒   x ─ ArgMax ─ i

Only what maps different numbers to different numbers keeps the index: Neg of floats, and a Cast to a type
that holds every value. Softmax, Sigmoid, Exp, Sqrt, scaling and shifting are monotone, but they round: close
numbers become equal, and of equal numbers the first counts, so that the index may change. Relu makes ties of
all that is negative.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._exactness import holds

_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
_COMPARED = (*_FLOATS, ir.DataType.INT32)
"""Types that ArgMax and ArgMin of onnxruntime take at every opset."""
_OPPOSITE = {"ArgMax": "ArgMin", "ArgMin": "ArgMax"}


def guard(m: Match) -> str | None:
    """Keep out of integers under Neg, where the least has no opposite, and of a Cast that rounds."""
    before, source = m.node("before"), m["x"].dtype
    if before.op_type == "Neg":
        return None if source in _FLOATS else "the type is no float"
    exact = source in _COMPARED and holds(ir.DataType(before.attributes["to"].value), source)
    return None if exact else "the Cast may round"


def replace(m: Match, new: Builder) -> ir.Value:
    """Take the index from x itself."""
    negated = m.node("before").op_type == "Neg"
    op_type = _OPPOSITE[m.root.op_type] if negated else m.root.op_type
    return new.op(op_type, m["x"], attributes=m.root.attributes)


RULE = Rule(
    "eliminate_monotone_before_argmax",
    op(("ArgMax", "ArgMin"), op(("Neg", "Cast"), var("x"), name="before", shared=True)),
    replace,
    guard,
)
