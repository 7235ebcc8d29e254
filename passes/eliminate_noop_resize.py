"""Drop a Resize or Upsample that keeps every size.

x: float[batch, 3, 8, 8] ─ Resize(scales=[1, 1, 1, 1]) ─ op      ⇒   x ─ op
x: float[1, 3, 8, 8] ─ Resize(sizes=[1, 3, 8, 8]) ─ op           ⇒   x ─ op

Keeps out of `tf_crop_and_resize`, which may take a part, and of `tf_half_pixel_for_nn`, which may shift.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import static_shape
from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import constant_tensor
from fuseonnx.core.pattern import any_of, const, maybe, op, var
from fuseonnx.core.rule import Match, Rule

_MOVING = ("tf_crop_and_resize", "tf_half_pixel_for_nn")


def guard(m: Match) -> str | None:
    """Keep out unless all scales are 1, or the sizes are those that x has."""
    if m.root.attributes.get_string("coordinate_transformation_mode", "half_pixel") in _MOVING:
        return "its coordinates move"
    return None if _keeps_scale(m) or _keeps_sizes(m) else "it may resize"


def replace(m: Match, _new: Builder) -> ir.Value:
    """Let the users read x itself."""
    return m["x"]


def _keeps_scale(m: Match) -> bool:
    if m.get("scales") is None:
        return all(scale == 1.0 for scale in m.root.attributes.get_floats("scales", (0.0,)))
    return constant_tensor(m["scales"]).size > 0 and bool((m.array("scales") == 1).all())


def _keeps_sizes(m: Match) -> bool:
    dims = static_shape(m["x"])
    if m.get("sizes") is None or dims is None:
        return False
    axes = m.root.attributes.get_ints("axes", range(len(dims)))
    return bool([dims[axis] for axis in axes] == m.array("sizes").tolist())


RULE = Rule(
    "eliminate_noop_resize",
    any_of(
        op(
            ("Resize", "Upsample"), var("x"), maybe(var("roi")), maybe(const("scales")), maybe(const("sizes"))
        ),
        op(("Resize", "Upsample"), var("x"), const("scales")),
    ),
    replace,
    guard,
)
