"""Spell GlobalLpPool as a reduction, which has a CUDA kernel.

    GlobalLpPool(x, p=1)   ⇒   ReduceL1(x, spatial axes)
    GlobalLpPool(x, p=2)   ⇒   ReduceL2(x, spatial axes)

for x [N, C, spatial…]; both are Σ|x|ᵖ to the power of 1/p.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._gpu import in_float32, reduced
from fuseonnx.passes._scalars import FLOATS

_REDUCTIONS = {1: "ReduceL1", 2: "ReduceL2"}
_OPSETS = range(2, 22)
"""Before, p may be a fraction; after, onnxruntime has no kernel on any device."""


def guard(m: Match) -> str | None:
    """Keep out of other norms and of unknown ranks."""
    if m.opset not in _OPSETS or m["x"].dtype not in FLOATS:
        return "onnxruntime has no GlobalLpPool of this opset and dtype"
    if _p(m) not in _REDUCTIONS:
        return "no reduction has this p"
    return None if (rank(m["x"]) or 0) > 2 else "the rank is unknown, or there is no spatial axis"


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the reduction."""
    axes = range(2, rank(m["x"]) or 0)

    def norm(values: Sequence[ir.Value]) -> ir.Value:
        return reduced(new, _REDUCTIONS[_p(m)], values[0], list(axes), m.opset)

    return in_float32(new, norm, [m["x"]])


def _p(m: Match) -> int:
    return m.root.attributes.get_int("p", 2)


RULE = Rule("decompose_global_lp_pool", op("GlobalLpPool", var("x")), replace, guard)
