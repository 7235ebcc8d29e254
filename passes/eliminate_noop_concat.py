"""Drop what joins one tensor with nothing, or splits it into one part.

x ─ Concat ─ op   ⇒   x ─ op

So do Sum, Mean, Max and Min of one input, and Split with one output.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import any_of, maybe, op, var
from fuseonnx.core.rule import Match, Rule


def guard(m: Match) -> str | None:
    """Keep out of a Split into several parts."""
    return None if len(m.root.outputs) == 1 else ""


def replace(m: Match, _new: Builder) -> ir.Value:
    """Let the users read x itself."""
    return m["x"]


RULE = Rule(
    "eliminate_noop_concat",
    any_of(
        op(("Concat", "Sum", "Mean", "Max", "Min"), var("x")),
        op("Split", var("x"), maybe(var("sizes"))),
    ),
    replace,
    guard,
)
