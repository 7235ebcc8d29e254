"""Drop two Casts of which the first is exact and the second goes back.

x: float16 ─ Cast(float) ─ Cast(float16) ─ op   ⇒   x ─ op

Exact is a Cast to a type that holds every value of the first: float16 → float, int32 → int64, int32 → double,
bool → any number. float → float16 → float rounds, and stays.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._exactness import holds


def guard(m: Match) -> str | None:
    """Keep out unless the types are known, the way there is exact, and the way back ends where it began."""
    source, target = m["x"].dtype, m.root.attributes["to"].value
    if source is None:
        return "the type is unknown"
    if source != target:
        return ""
    between = ir.DataType(m.node("there").attributes["to"].value)
    return None if holds(between, source) else "the first Cast rounds"


def replace(m: Match, _new: Builder) -> ir.Value:
    """Let the users read x itself."""
    return m["x"]


RULE = Rule(
    "eliminate_cast_round_trip",
    op("Cast", op("Cast", var("x"), name="there", shared=True)),
    replace,
    guard,
)
