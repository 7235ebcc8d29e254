"""Drop Dropout where it passes its input on, as it does in inference.

x ─ Dropout ─ op   ⇒   x ─ op

Opset 12 and later drop only if `training_mode` is true, opsets 7 to 11 never, and before them unless
`is_test` is set. Keeps out if something reads the mask.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import is_const
from fuseonnx.core.pattern import maybe, op, var
from fuseonnx.core.rule import Match, Rule


def guard(m: Match) -> str | None:
    """Keep out of training, and of a mask that is read."""
    if _may_train(m):
        return "it may drop at run time"
    if any(mask.uses() or mask.is_graph_output() for mask in m.root.outputs[1:]):
        return "the mask is used"
    return None


def replace(m: Match, _new: Builder) -> ir.Value:
    """Let the users read x itself."""
    return m["x"]


def _may_train(m: Match) -> bool:
    if m.opset < 7:
        return not m.root.attributes.get_int("is_test", 0)
    mode = m.get("training_mode")
    return mode is not None and not (is_const(mode) and not m.array("training_mode").item())


RULE = Rule(
    "eliminate_dropout",
    op("Dropout", var("x"), maybe(var("ratio")), maybe(var("training_mode"))),
    replace,
    guard,
)
