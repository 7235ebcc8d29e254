"""Pad once instead of twice with the same constant.

x ─ Pad([0, 1], c) ─ Pad([2, 0], c) ─ op   ⇒   x ─ Pad([2, 1], c) ─ op
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Attributes, Builder
from fuseonnx.core.constants import array_of, is_const
from fuseonnx.core.pattern import maybe, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._chains import has_input, int64s, integers

PADS_ARE_INPUTS = 11


def guard(m: Match) -> str | None:
    """Keep out of other modes, of crops, and of two constants that differ."""
    first, second = m.node("first"), m.root
    if any(node.attributes.get_string("mode", "constant") != "constant" for node in (first, second)):
        return "it pads with no constant"
    pads = [full_pads(node, rank(m["x"])) for node in (first, second)]
    if None in pads:
        return "the pads are unknown"
    if any(min(each or (), default=0) < 0 for each in pads):
        return "it crops"
    a, b = (fill_of(node) for node in (first, second))
    return None if a is not None and a == b else "it pads with another value"


def replace(m: Match, new: Builder) -> ir.Value:
    """Pad once."""
    first, axes = m.node("first"), rank(m["x"])
    pads = np.add(full_pads(first, axes) or (), full_pads(m.root, axes) or ())
    return padded(m, new, first, pads.tolist())


def padded(m: Match, new: Builder, pad: ir.Node, pads: list[int]) -> ir.Value:
    """Rebuild a Pad of `x` with other pads, for all axes, in the spelling of the opset."""
    attributes: Attributes = {name: value for name, value in pad.attributes.items() if name != "pads"}
    if m.opset < PADS_ARE_INPUTS:
        return new.op("Pad", m["x"], attributes={**attributes, "pads": pads}, like=pad)
    value = pad.inputs[2] if len(pad.inputs) > 2 else None
    return new.op("Pad", m["x"], int64s(new, pads), value, attributes=attributes, like=pad)


def full_pads(pad: ir.Node, axes: int | None) -> list[int] | None:
    """Return begins and ends of all axes, None if they are unknown."""
    pads = integers(pad, "pads", 1)
    if pads is None or not has_input(pad, 3):
        return pads
    some = integers(pad, "axes", 3)
    if some is None or axes is None:
        return None
    full = [0] * (2 * axes)
    for index, axis in enumerate(some):
        full[axis % axes], full[axis % axes + axes] = pads[index], pads[index + len(some)]
    return full


def fill_of(pad: ir.Node) -> bytes | None:
    """Return the bits of the constant, without their zeros at the end; None if it is unknown."""
    if not has_input(pad, 2):
        return np.float64(pad.attributes.get_float("value", 0.0)).tobytes().rstrip(b"\0")
    value = pad.inputs[2]
    return array_of(value).tobytes().rstrip(b"\0") if value is not None and is_const(value) else None


RULE = Rule(
    "merge_pads",
    op(
        "Pad",
        op("Pad", var("x"), maybe(var("pads1")), maybe(var("value1")), maybe(var("axes1")), name="first"),
        maybe(var("pads")),
        maybe(var("value")),
        maybe(var("axes")),
    ),
    replace,
    guard,
)
