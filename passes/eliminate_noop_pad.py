"""Drop a Pad that adds nothing on any side.

x ─ Pad([0, 0, 0, 0]) ─ op   ⇒   x ─ op
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import any_of, const, maybe, op, var
from fuseonnx.core.rule import Match, Rule


def guard(m: Match) -> str | None:
    """Keep out unless all pads are 0; before opset 11 they are an attribute."""
    pads = m.array("pads").tolist() if m.get("pads") is not None else m.root.attributes.get_ints("pads")
    return "it pads" if pads is None or any(pads) else None


def replace(m: Match, _new: Builder) -> ir.Value:
    """Let the users read x itself."""
    return m["x"]


RULE = Rule(
    "eliminate_noop_pad",
    any_of(
        op("Pad", var("x"), const("pads"), maybe(var("value")), maybe(var("axes"))),
        op("Pad", var("x")),
    ),
    replace,
    guard,
)
