"""Drop Identity.

x ─ Identity ─ op   ⇒   x ─ op
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule


def replace(m: Match, _new: Builder) -> ir.Value:
    """Let the users read x itself."""
    return m["x"]


RULE = Rule("eliminate_identity", op("Identity", var("x")), replace)
