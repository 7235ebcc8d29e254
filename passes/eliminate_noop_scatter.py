"""Drop a scatter that writes nothing.

ScatterND(x, indices, updates: float[0, 4]) ─ op   ⇒   x ─ op

So do ScatterElements and Scatter.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._dims import known_dims


def guard(m: Match) -> str | None:
    """Keep out unless there is surely no update."""
    return None if 0 in (known_dims(m["updates"]) or ()) else "it may write"


def replace(m: Match, _new: Builder) -> ir.Value:
    """Let the users read x itself."""
    return m["x"]


RULE = Rule(
    "eliminate_noop_scatter",
    op(("ScatterND", "ScatterElements", "Scatter"), var("x"), var("indices"), var("updates")),
    replace,
    guard,
)
