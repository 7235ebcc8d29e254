"""Raise scores that a mask hides to 72 below the best of their row: Softmax is slow further down.

x = scores + mask ─ Softmax   ⇒   x ─┬───────────── Sub ─ Clip(min = -72) ─ Softmax
                                     └─ ReduceMax ──┘

What is hidden by -100, by -3.4e38 or by -inf gets e^-88 or less: a denormal number, with which a processor
computes many times slower, in Softmax and in the product with V after it. With the floor it gets e^-72, or
5e-32, of the largest weight of its row: of n weights none moves by more than n · 5e-32, where float32 rounds
a weight of 1 to 6e-8. Softmax subtracts the best of a row itself, so that the others do not move at all. A
row that is hidden throughout keeps its equal weights, or its NaN.

docs/forms.md has the times. Where a mask hides nothing the three operators are a loss, so a mask that is fed
stays; the rule looks for those of positions: constants and comparisons of ranges.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.symbolic import dims_of
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._hidden import hides

_FLOOR = -72.0
_SOFTMAX_ALONG_ONE_AXIS = 13
_REDUCE_AXES_ARE_INPUTS = 18


def guard(m: Match) -> str | None:
    """Keep out of other types and axes, and of scores of which the mask may hide none."""
    scores = m["x"]
    if not _is_masked(scores):
        return ""
    if m.opset < _SOFTMAX_ALONG_ONE_AXIS or scores.dtype is not ir.DataType.FLOAT:
        return "it is for float32, since opset 13"
    dims = dims_of(scores)
    if dims is None or m.root.attributes.get_int("axis", -1) not in (-1, len(dims) - 1):
        return "Softmax is not along the last axis"
    return "there is one query" if dims[-2:-1] == (1,) else None


def replace(m: Match, new: Builder) -> ir.Value:
    """Put the floor under the scores."""
    scores = m["x"]
    if m.opset >= _REDUCE_AXES_ARE_INPUTS:
        best = new.op("ReduceMax", scores, new.const(np.array([-1])))
    else:
        best = new.op("ReduceMax", scores, attributes={"axes": [-1]})
    floor = new.const(np.array(_FLOOR, np.float32))
    return new.op("Softmax", new.op("Clip", new.op("Sub", scores, best), floor), attributes=m.root.attributes)


def _is_masked(scores: ir.Value) -> bool:
    """Whether scores have a mask added, or put in their place, that hides some of them."""
    node = scores.producer()
    return node is not None and node.op_type in {"Add", "Where"} and hides(scores)


RULE = Rule("floor_hidden_scores", op("Softmax", var("x")), replace, guard)
