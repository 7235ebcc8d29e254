"""Let a reduction keep the axes that a Reshape puts back.

x ─ ReduceMean(axes=[2, 3], keepdims=0) ─ Reshape([-1, C, 1, 1])   ⇒   x ─ ReduceMean(axes=[2, 3])

for x [N, C, H, W], and so for other reductions and axes, where at most one dim that stays is unknown. So
tf2onnx exports squeeze and excitation.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Attributes, Builder
from fuseonnx.core.pattern import const, maybe, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._dims import known_dims
from fuseonnx.passes._reduction import taken_axes

_REDUCTIONS = (
    "ReduceMean",
    "ReduceSum",
    "ReduceMax",
    "ReduceMin",
    "ReduceL2",
    "ReduceProd",
    "ReduceSumSquare",
)


def guard(m: Match) -> str | None:
    """Keep out unless the target is the shape of x, with 1 for each axis that is reduced."""
    reduction = m.node("reduction")
    if reduction.attributes.get_int("keepdims", 1):
        return ""
    axes, dims, target = taken_axes(reduction), known_dims(m["x"]), m.array("target").tolist()
    if axes is None or dims is None:
        return "the axes are unknown"
    if len(target) != len(dims) or any(target[axis] != 1 for axis in axes):
        return "other axes come back"
    kept = [(dims[axis], size) for axis, size in enumerate(target) if axis not in axes]
    free = [size for known, size in kept if size != known]
    return None if free in ([], [-1]) and 0 not in target else "other axes come back"


def replace(m: Match, new: Builder) -> ir.Value:
    """Reduce with keepdims."""
    reduction = m.node("reduction")
    attributes: Attributes = {**reduction.attributes, "keepdims": 1}
    return new.op(reduction.op_type, *reduction.inputs, attributes=attributes, like=reduction)


RULE = Rule(
    "merge_reshape_into_reduce",
    op("Reshape", op(_REDUCTIONS, var("x"), maybe(var("axes")), name="reduction"), const("target")),
    replace,
    guard,
)
