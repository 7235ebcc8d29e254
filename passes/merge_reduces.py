"""Reduce along all axes at once.

x ─ ReduceSum(axes=[3]) ─ ReduceSum(axes=[2]) ─ op   ⇒   x ─ ReduceSum(axes=[2, 3]) ─ op

So for ReduceMax, ReduceMin and ReduceMean of floats (the parts have one size, so the mean of their means is
the mean). The axes must be neighbours, and not the leading ones: onnxruntime has no fast kernel for others.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Attributes, Builder
from fuseonnx.core.pattern import any_of, maybe, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._chains import counted, int64s, integers

_KINDS = ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceMean")
_AXES_ARE_INPUTS = {"ReduceSum": 13}
_ALL_AXES_ARE_INPUTS = 18
_FLOATS = {ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16}


def guard(m: Match) -> str | None:
    """Keep out of unknown axes, and where the axes that stay would be others."""
    if m.root.op_type == "ReduceMean" and m["x"].dtype not in _FLOATS:
        return "the mean of integers is rounded"
    axes = _axes(m)
    if axes is None:
        return "the axes are unknown, or their sizes stay for some of them only"
    if axes != list(range(axes[0], axes[-1] + 1)):
        return "the axes are no neighbours"
    return "leading axes are slower at once" if axes[0] == 0 and len(axes) != rank(m["x"]) else None


def replace(m: Match, new: Builder) -> ir.Value:
    """Reduce once."""
    axes, op_type = _axes(m) or [], m.root.op_type
    kept: Attributes = {"keepdims": _keeps(m.root)}
    if m.opset >= _AXES_ARE_INPUTS.get(op_type, _ALL_AXES_ARE_INPUTS):
        return new.op(op_type, m["x"], int64s(new, axes), attributes=kept)
    return new.op(op_type, m["x"], attributes={**kept, "axes": axes})


def _axes(m: Match) -> list[int] | None:
    """Return the axes of x that the two reduce, counted from the front; None if they are not one."""
    first, size = m.node("first"), rank(m["x"])
    a, b = (integers(node, "axes", 1) for node in (first, m.root))
    if not a or not b:
        return None
    keeps = _keeps(first)
    if keeps != _keeps(m.root):
        return None
    a = counted(a, size)
    between = size if keeps or size is None or a is None else size - len(a)
    b = counted(b, between)
    if a is None or b is None:
        return None
    if not keeps:
        left = [axis for axis in range(max(b) + len(a) + 1) if axis not in a]
        b = [left[axis] for axis in b]
    return sorted({*a, *b})


def _keeps(node: ir.Node) -> int:
    return node.attributes.get_int("keepdims", 1) or 0


RULE = Rule(
    "merge_reduces",
    any_of(
        *(op(kind, op(kind, var("x"), maybe(var("a")), name="first"), maybe(var("b"))) for kind in _KINDS)
    ),
    replace,
    guard,
)
