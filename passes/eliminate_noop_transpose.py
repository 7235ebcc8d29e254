"""Drop a Transpose that leaves every axis in its place.

x ─ Transpose(perm=[0, 1, 2]) ─ op   ⇒   x ─ op

Without `perm` the axes are reversed, which changes nothing up to rank 1.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule


def guard(m: Match) -> str | None:
    """Keep out if an axis moves, or may move."""
    perm = m.root.attributes.get_ints("perm")
    if perm is not None:
        return None if list(perm) == list(range(len(perm))) else "it moves an axis"
    axes = rank(m["x"])
    if axes is None:
        return "the rank is unknown"
    return None if axes <= 1 else "it moves an axis"


def replace(m: Match, _new: Builder) -> ir.Value:
    """Let the users read x itself."""
    return m["x"]


RULE = Rule("eliminate_noop_transpose", op("Transpose", var("x")), replace, guard)
