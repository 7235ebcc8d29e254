"""Let a reduction keep the axes that Unsqueeze puts back.

x ─ ReduceMean(axes=[1], keepdims=0) ─ Unsqueeze([1]) ─ op   ⇒   x ─ ReduceMean(axes=[1], keepdims=1) ─ op

So for every Reduce operator, ArgMax and ArgMin.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Attributes, Builder
from fuseonnx.core.constants import array_of, is_const
from fuseonnx.core.pattern import any_of, maybe, op, var
from fuseonnx.core.rule import Match, Rule

_REDUCTIONS = (
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
)
REDUCTION = any_of(
    op(_REDUCTIONS, var("x"), maybe(var("reduced")), name="reduction"),
    op(("ArgMax", "ArgMin"), var("x"), name="reduction"),
)


def guard(m: Match) -> str | None:
    """Keep out unless the axes that go are known, and all of them come back."""
    reduction = m.node("reduction")
    if reduction.attributes.get_int("keepdims", 1):
        return ""
    reduced, restored = reduced_axes(reduction), reduced_axes(m.root)
    if not reduced or not restored:
        return "the axes are unknown"
    if min(*reduced, *restored) < 0:
        axes = rank(m["x"])
        if axes is None:
            return "the rank is unknown"
        reduced, restored = ([axis % axes for axis in each] for each in (reduced, restored))
    return None if sorted(reduced) == sorted(restored) else "other axes come back"


def replace(m: Match, new: Builder) -> ir.Value:
    """Reduce with keepdims."""
    reduction = m.node("reduction")
    attributes: Attributes = {**reduction.attributes, "keepdims": 1}
    return new.op(reduction.op_type, *reduction.inputs, attributes=attributes, like=reduction)


def reduced_axes(node: ir.Node) -> list[int]:
    """Return the axes in any spelling: an input, an attribute, or `axis`; empty if they are unknown."""
    if node.op_type in ("ArgMax", "ArgMin"):
        return [node.attributes.get_int("axis", 0)]
    if len(node.inputs) > 1:
        axes = node.inputs[1]
        return array_of(axes).tolist() if axes is not None and is_const(axes) else []
    return list(node.attributes.get_ints("axes", ()))


RULE = Rule(
    "merge_unsqueeze_into_reduce",
    op("Unsqueeze", REDUCTION, maybe(var("restored"))),
    replace,
    guard,
)
