"""Drop a Cast to the type that the value already has.

x: float ─ Cast(float) ─ op   ⇒   x ─ op
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import any_of, op, var
from fuseonnx.core.rule import Match, Rule


def guard(m: Match) -> str | None:
    """Keep out unless both types are known and the same."""
    target = m["like"].dtype if m.root.op_type == "CastLike" else m.root.attributes["to"].value
    if m["x"].dtype is None or target is None:
        return "the type is unknown"
    return None if m["x"].dtype == target else "it changes the type"


def replace(m: Match, _new: Builder) -> ir.Value:
    """Let the users read x itself."""
    return m["x"]


RULE = Rule(
    "eliminate_noop_cast",
    any_of(op("Cast", var("x")), op("CastLike", var("x"), var("like"))),
    replace,
    guard,
)
