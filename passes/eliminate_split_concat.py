"""Drop a Split whose parts are joined again.

x ─ Split ─┬─ Concat ─ op   ⇒   x ─ op
           └───┘

Others may use the parts.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import Var, op
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._chains import same_axis


def guard(m: Match) -> str | None:
    """Keep out unless all parts are joined in their order, along the axis along which they were split."""
    split = _split(m)
    if split.op_type != "Split" or split.domain or tuple(m.root.inputs) != tuple(split.outputs):
        return ""
    return None if same_axis(split, m.root, 0) else "it joins along another axis"


def replace(m: Match, _new: Builder) -> ir.Value:
    """Let the users read x itself."""
    x = _split(m).inputs[0]
    assert x is not None
    return x


def _split(m: Match) -> ir.Node:
    first = m.root.inputs[0]
    return (first.producer() if first is not None else None) or m.root


RULE = Rule("eliminate_split_concat", op("Concat", each=Var("")), replace, guard)
