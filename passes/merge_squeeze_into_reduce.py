"""Let a reduction drop the axes that Squeeze removes.

x ─ ReduceMean(axes=[1], keepdims=1) ─ Squeeze([1]) ─ op   ⇒   x ─ ReduceMean(axes=[1], keepdims=0) ─ op

So for every Reduce operator, ArgMax and ArgMin.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Attributes, Builder
from fuseonnx.core.pattern import maybe, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._chains import counted, integers
from fuseonnx.passes.merge_unsqueeze_into_reduce import REDUCTION, reduced_axes


def guard(m: Match) -> str | None:
    """Keep out unless the axes that are reduced are known, and all of them go."""
    reduction = m.node("reduction")
    if not reduction.attributes.get_int("keepdims", 1):
        return ""
    reduced, removed = reduced_axes(reduction), integers(m.root, "axes", 1)
    if not reduced or not removed:
        return "the axes are unknown"
    a, b = (counted(each, rank(m["x"])) for each in (reduced, removed))
    if a is None or b is None:
        return "the rank is unknown"
    return None if a == b else "other axes go"


def replace(m: Match, new: Builder) -> ir.Value:
    """Reduce without keepdims."""
    reduction = m.node("reduction")
    attributes: Attributes = {**reduction.attributes, "keepdims": 0}
    return new.op(reduction.op_type, *reduction.inputs, attributes=attributes, like=reduction)


RULE = Rule("merge_squeeze_into_reduce", op("Squeeze", REDUCTION, maybe(var("removed"))), replace, guard)
