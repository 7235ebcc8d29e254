"""Drop a reduction over axes of size 1, or over no axis at all.

x: float[batch, 1, 4] ─ ReduceSum(axes=[1], keepdims=1) ─ op      ⇒   x ─ op
x ─ ReduceMean(noop_with_empty_axes=1) ─ op                       ⇒   x ─ op

So do ReduceMax, ReduceMin and ReduceProd. The other reductions map the element they keep.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import const, maybe, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._dims import known_dims


def guard(m: Match) -> str | None:
    """Keep out unless all axes that are reduced have size 1 and stay."""
    axes = _axes(m)
    if not axes and m.root.attributes.get_int("noop_with_empty_axes", 0) == 1:
        return None
    dims = known_dims(m["x"])
    if dims is None:
        return "the rank is unknown"
    if any(dims[axis] != 1 for axis in axes or range(len(dims))):
        return "an axis may be longer than 1"
    return None if m.root.attributes.get_int("keepdims", 1) or not dims else "the axes go"


def replace(m: Match, _new: Builder) -> ir.Value:
    """Let the users read x itself."""
    return m["x"]


def _axes(m: Match) -> list[int]:
    """Return the axes, an input or an attribute of older opsets; empty if there is neither."""
    if m.get("axes") is not None:
        axes: list[int] = m.array("axes").tolist()
        return axes
    return list(m.root.attributes.get_ints("axes", ()))


RULE = Rule(
    "eliminate_noop_reduce",
    op(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"), var("x"), maybe(const("axes"))),
    replace,
    guard,
)
