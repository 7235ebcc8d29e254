"""Drop Reshape, Expand, Slice and Tile whose computed parameters give the dims that they are given.

x: float[batch, 4, n, 8] ─ Reshape(Concat(Shape(x)[0:1], [4], Shape(x)[2:3], [8])) ─ op   ⇒   x ─ op
x: float[batch, n] ─ Slice(starts=[0], ends=Shape(x)[1:2], axes=[1]) ─ op                 ⇒   x ─ op

Dims are compared in symbols: the same name is the same number.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.symbolic import dims_of, integers_of
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import Var, op
from fuseonnx.core.rule import Match, Rule


def guard(m: Match) -> str | None:
    """Keep out unless the dims surely stay, and with them the data."""
    x, result = m.root.inputs[0], m.root.outputs[0]
    if x is None or (m.root.op_type == "Slice" and not _steps_are_one(m.root)):
        return "the step may not be 1"
    dims = dims_of(x)
    return None if dims is not None and dims == dims_of(result) else "the dims may change"


def replace(m: Match, _new: Builder) -> ir.Value:
    """Let the users read x itself."""
    x = m.root.inputs[0]
    assert x is not None
    return x


def _steps_are_one(node: ir.Node) -> bool:
    if len(node.inputs) < 5 or node.inputs[4] is None:
        return True
    return set(integers_of(node.inputs[4]) or [0]) == {1}


RULE = Rule(
    "eliminate_noop_resizing", op(("Reshape", "Expand", "Slice", "Tile"), each=Var("")), replace, guard
)
