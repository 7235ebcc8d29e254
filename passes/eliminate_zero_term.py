"""Drop a term that is zero everywhere, though it is no constant, or one too large to write down.

x + Transpose(GatherND(table of zeros, indices))   ⇒   x
x + Expand(0.0, [1, 1, s, s])                      ⇒   x

So add attentions whose biases are zero, and masks that hide nothing. Where x is −0.0, x + 0.0 gives +0.0 and
x stays −0.0; the two are equal, and only a division by them tells them apart.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.symbolic import dims_of
from fuseonnx.analysis.zeros import is_zero
from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import is_const
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule

_NUMPY_BROADCAST = 7


def guard(m: Match) -> str | None:
    """Keep out unless one term is zero, and the other has the shape of the sum."""
    return "" if m.opset < _NUMPY_BROADCAST or _rest(m) is None else None


def replace(m: Match, _new: Builder) -> ir.Value:
    """Let the users read the other term."""
    rest = _rest(m)
    assert rest is not None
    return rest


def _rest(m: Match) -> ir.Value | None:
    for x, term in ((m["a"], m["b"]), (m["b"], m["a"])):
        if not is_const(term) and is_zero(term) and _keeps_shape(x, term):
            return x
    return None


def _keeps_shape(x: ir.Value, term: ir.Value) -> bool:
    """Whether a sum of the two surely has the shape of x."""
    dims, others = dims_of(x), dims_of(term)
    if dims is None or others is None or len(others) > len(dims):
        return False
    return all(other in (1, dim) for dim, other in zip(dims[::-1], others[::-1], strict=False))


RULE = Rule("eliminate_zero_term", op("Add", var("a"), var("b")), replace, guard)
