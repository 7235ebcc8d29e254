"""Give a number the rank of what it meets, where that ends in an axis of size 1.

    x: [n, 28, 28, 1] ─ Mul(c: [])   ⇒   x ─ Mul(c: [1, 1, 1, 1])

onnxruntime's CPU kernels pair the axes from the last one on. A 1 that meets no axis of the number makes them
take the elements one by one: 3 to 50 times as long (docs/forms.md).
"""

from __future__ import annotations

import math

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import constant_tensor
from fuseonnx.core.pattern import any_of, const, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._dims import known_dims

_SMALL = 16
_ARITHMETIC = ("Add", "Div", "Max", "Min", "Mul", "Pow", "Sub")
_COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
_ARITHMETIC_BROADCASTS = 7


def guard(m: Match) -> str | None:
    """Keep out unless one number meets many elements whose last axis has size 1."""
    tensor, dims = constant_tensor(m["c"]), known_dims(m["x"])
    if m.opset < _ARITHMETIC_BROADCASTS or tensor.size != 1 or dims is None or len(dims) <= len(tensor.shape):
        return ""
    if dims[-1] != 1:
        return ""
    few = None not in dims and 0 < math.prod(dim or 0 for dim in dims) < _SMALL
    return "there are only a few elements" if few else None


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the same operator on the number with leading axes."""
    dims = known_dims(m["x"]) or []
    number = new.const(m.array("c").reshape((1,) * len(dims)), like=m["c"])
    operands = [number if value is m["c"] else value for value in m.root.inputs]
    return new.op(m.root.op_type, *operands, attributes=m.root.attributes)


RULE = Rule(
    "unsqueeze_scalar",
    any_of(
        op((*_ARITHMETIC, *_COMPARISONS), var("x"), const("c")),
        op((*_ARITHMETIC, *_COMPARISONS), const("c"), var("x")),
    ),
    replace,
    guard,
)
