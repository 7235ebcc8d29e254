"""Compare two values instead of their difference with 0.

    Equal(a - b, 0)   ⇒   Equal(a, b)

Floats differ by 0 only if they are equal (IEEE 754 has numbers small enough for any difference), but ∞ - ∞ is
not 0: of floats, one operand is constant and finite. Integers that wrap around do so to 0 only if equal.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import array_of, constant_tensor, is_const
from fuseonnx.core.pattern import const, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._dims import keeps_shape

_MAX_BYTES = 1 << 20


def guard(m: Match) -> str | None:
    """Keep out of other numbers, and of infinities."""
    a, zero = m["a"], constant_tensor(m["zero"])
    dims = zero.shape.numpy()
    fits = math.prod(dims) == 1 and (keeps_shape(a, dims) or keeps_shape(m["b"], dims))
    if not fits or array_of(m["zero"]).any():
        return "it is not compared with 0"
    if a.dtype is None:
        return "the dtype is unknown"
    if a.dtype.is_integer() or any(_is_finite(each) for each in (a, m["b"])):
        return None
    return "both may be infinite"


def replace(m: Match, new: Builder) -> ir.Value:
    """Compare the operands."""
    return new.op("Equal", m["a"], m["b"])


def _is_finite(value: ir.Value) -> bool:
    if not is_const(value) or constant_tensor(value).nbytes > _MAX_BYTES:
        return False
    return bool(np.isfinite(array_of(value)).all())


RULE = Rule(
    "merge_difference_test",
    op("Equal", op("Sub", var("a"), var("b")), const("zero")),
    replace,
    guard,
)
