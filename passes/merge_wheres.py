"""Choose once by a condition instead of twice, and without negating it.

    Where(c, x, Where(c, y, z))   ⇒   Where(c, x, z)
    Where(c, Where(c, x, y), z)   ⇒   Where(c, x, z)
    Where(Not(c), x, y)           ⇒   Where(c, y, x)

The result keeps its shape: what is dropped, and the condition, broadcast nothing. Others may use Not(c).
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import static_shape
from fuseonnx.analysis.symbolic import dims_of
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import any_of, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._dims import keeps_shape

_C, _X, _Z = var("c"), var("x"), var("z")


def guard(m: Match) -> str | None:
    """Keep out of what is dropped if its shape counts."""
    if m.get("dropped") is None:
        return None
    if any(_covers(m[each], m["dropped"]) for each in ("c", "x", "z")):
        return None
    return "what is dropped may broadcast the result"


def replace(m: Match, new: Builder) -> ir.Value:
    """Choose between what is left."""
    return new.op("Where", m["c"], m["x"], m["z"])


def _covers(value: ir.Value, dropped: ir.Value) -> bool:
    """Whether broadcasting a value with the dropped one surely gives the shape of the value."""
    dims = static_shape(dropped)
    if dims is not None:
        return keeps_shape(value, dims)
    shape = dims_of(value)
    return shape is not None and shape == dims_of(dropped)


RULE = Rule(
    "merge_wheres",
    any_of(
        op("Where", _C, _X, op("Where", _C, var("dropped"), _Z)),
        op("Where", _C, op("Where", _C, _X, var("dropped")), _Z),
        op("Where", op("Not", _C, shared=True), _Z, _X),
    ),
    replace,
    guard,
)
