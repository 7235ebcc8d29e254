"""Let a reduction keep the axes that a Reshape puts back, or drop those that it removes.

x ─ ReduceMean(axes=[2, 3], keepdims=0) ─ Reshape([-1, C, 1, 1])   ⇒   x ─ ReduceMean(axes=[2, 3])
x ─ ReduceMean(axes=[2, 3]) ─ Reshape([-1, C])                     ⇒   x ─ ReduceMean(axes=[2, 3], keepdims=0)

for x [N, C, H, W], and so for other reductions and axes, where at most one dim that stays is unknown; Flatten
removes them too. So tf2onnx exports squeeze and excitation, and PyTorch the head of a ResNet.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from fuseonnx.analysis.symbolic import dims_of
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
    """Keep out unless the axes that are reduced, and no others, come back or go."""
    axes = taken_axes(m.node("reduction"))
    if axes is None:
        return "the axes are unknown"
    if _keeps(m):
        return None if _removes(m, axes) else "other axes go"
    return None if m.get("target") is not None and _restores(m, axes) else "other axes come back"


def replace(m: Match, new: Builder) -> ir.Value:
    """Reduce with keepdims, or without."""
    reduction = m.node("reduction")
    attributes: Attributes = {**reduction.attributes, "keepdims": int(not _keeps(m))}
    return new.op(reduction.op_type, *reduction.inputs, attributes=attributes, like=reduction)


def _keeps(m: Match) -> bool:
    return bool(m.node("reduction").attributes.get_int("keepdims", 1))


def _restores(m: Match, axes: Sequence[int]) -> bool:
    """Whether the target is the shape of x, with 1 for each axis that is reduced."""
    dims, target = known_dims(m["x"]), m.array("target").tolist()
    if dims is None or len(target) != len(dims) or any(target[axis] != 1 for axis in axes):
        return False
    kept = [(dims[axis], size) for axis, size in enumerate(target) if axis not in axes]
    free = [size for known, size in kept if size != known]
    return free in ([], [-1]) and 0 not in target


def _removes(m: Match, axes: Sequence[int]) -> bool:
    """Whether the result has the dims of x that stay; the element count tells one that is unknown."""
    dims, result = dims_of(m["x"]), dims_of(m.root.outputs[0])
    if dims is None or result is None:
        return False
    kept = [dim for axis, dim in enumerate(dims) if axis not in axes]
    if len(kept) != len(result):
        return False
    same = [dim for dim, other in zip(kept, result, strict=True) if dim == other]
    return len(same) >= len(kept) - 1 and 0 not in same


RULE = Rule(
    "merge_reshape_into_reduce",
    op(
        ("Reshape", "Flatten"),
        op(_REDUCTIONS, var("x"), maybe(var("axes")), name="reduction"),
        maybe(const("target")),
    ),
    replace,
    guard,
)
