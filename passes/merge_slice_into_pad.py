"""Crop in the Pad that comes before: onnxruntime crops where a pad is negative.

x ─ Pad(begin=0, end=1) ─ Slice([1:]) ─ op   ⇒   x ─ Pad(begin=-1, end=1) ─ op

tf2onnx writes it for the strided shortcut of NASNet.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import const, maybe, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._chains import TO_THE_END
from fuseonnx.passes._dims import known_dims
from fuseonnx.passes.merge_pads import full_pads, padded
from fuseonnx.passes.merge_slices import read_cuts


def guard(m: Match) -> str | None:
    """Keep out unless the Pad is constant and the Slice leaves some of x."""
    if m.node("pad").attributes.get_string("mode", "constant") != "constant":
        return "it pads with no constant"
    return "the crop is not known to fit" if _pads(m) is None else None


def replace(m: Match, new: Builder) -> ir.Value:
    """Pad and crop at once."""
    return padded(m, new, m.node("pad"), _pads(m) or [])


def _pads(m: Match) -> list[int] | None:
    """Return the joint pads, None if they are unknown or nothing of x would be left along an axis."""
    dims, axes = known_dims(m["x"]), rank(m["x"])
    cuts, pads = read_cuts(m.root, axes), full_pads(m.node("pad"), axes)
    if dims is None or axes is None or cuts is None or pads is None or min(pads) < 0:
        return None
    for axis, cut in cuts.items():
        size = dims[axis]
        if cut[0] == 0 and cut[1] >= TO_THE_END and cut[2] == 1:
            continue
        if size is None or cut[2] != 1:
            return None
        begin, end = pads[axis], pads[axis + axes]
        first, last, _step = slice(*cut).indices(begin + size + end)
        pads[axis], pads[axis + axes] = begin - first, last - begin - size
        if min(pads[axis], 0) + min(pads[axis + axes], 0) + size < 1 or last <= first:
            return None
    return pads


RULE = Rule(
    "merge_slice_into_pad",
    op(
        "Slice",
        op("Pad", var("x"), maybe(const("pads")), maybe(var("value")), maybe(const("axes")), name="pad"),
        maybe(const("starts")),
        maybe(const("ends")),
        maybe(const("along")),
        maybe(const("steps")),
    ),
    replace,
    guard,
)
