"""Fold a Pad with zeros into the pads of the convolutions behind it.

    x ─ Pad(p) ─ Conv(pads=q)   ⇒   x ─ Conv(pads=p+q)

ConvInteger and QLinearConv pad with the zero point of x, which must be the number that Pad writes. Pads of
the batch or the channels, and pads that crop, stay; so does a Conv that computes its pads from the size.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import array_of, is_const
from fuseonnx.core.pattern import any_of, maybe, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._pads import PAD, own_pads, pad_value, spatial_pads, with_pads


def guard(m: Match) -> str | None:
    """Keep out unless only spatial axes are padded, with what the convolution pads with."""
    dims = rank(m["w"])
    if dims is None:
        return "the rank is unknown"
    if own_pads(m.root, dims - 2) is None:
        return "the convolution computes its pads from the size"
    pads = spatial_pads(m, dims)
    if isinstance(pads, str):
        return pads
    zero = m.get("zero")
    if zero is not None and not is_const(zero):
        return "the zero point is unknown"
    padding = 0 if zero is None else array_of(zero).reshape(-1)[0]
    return None if pad_value(m) == padding else "it does not pad with zeros"


def replace(m: Match, new: Builder) -> ir.Value:
    """Add the pads to those of the convolution."""
    attributes = with_pads(m, m.root, (rank(m["w"]) or 0) - 2)
    return new.op(m.root.op_type, m["x"], *m.root.inputs[1:], attributes=attributes, like=m.root)


RULE = Rule(
    "fold_pad_into_conv",
    any_of(
        op("Conv", PAD, var("w"), maybe(var("b"))),
        op("ConvInteger", PAD, var("w"), maybe(var("zero")), maybe(var("w_zero"))),
        op(
            "QLinearConv",
            *(PAD, var("scale"), var("zero"), var("w"), var("w_scale"), var("w_zero")),
            *(var("y_scale"), var("y_zero"), maybe(var("b"))),
        ),
    ),
    replace,
    guard,
)
