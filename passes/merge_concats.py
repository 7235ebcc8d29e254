"""Join what is joined in steps at once.

Concat(a, Concat(b, c), d)   ⇒   Concat(a, b, c, d)      so for Max and Min
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import Var, op
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._chains import flattened


def guard(m: Match) -> str | None:
    """Keep out unless an input is the same operator, for this one alone and along the same axis."""
    return None if len(_inputs(m)) > len(m.root.inputs) else ""


def replace(m: Match, new: Builder) -> ir.Value:
    """Join all of them."""
    return new.op(m.root.op_type, *_inputs(m), attributes=m.root.attributes)


def _inputs(m: Match) -> list[ir.Value | None]:
    return flattened(m, along_axis=m.root.op_type == "Concat")


RULE = Rule("merge_concats", op(("Concat", "Max", "Min"), each=Var("")), replace, guard)
