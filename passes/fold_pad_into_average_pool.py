"""Fold a Pad with zeros into the pads of the AveragePool behind it, which then counts them.

    x ─ Pad(p) ─ AveragePool(pads=q)   ⇒   x ─ AveragePool(pads=p+q, count_include_pad=1)

The mean is the same only if the pooling's own pads q count too, or are 0.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._pads import PAD, cannot_pool, own_pads, pad_value, spatial_pads, with_pads


def guard(m: Match) -> str | None:
    """Keep out unless only spatial axes are padded, with zeros, by less than the window."""
    if m.opset < 7:
        return "AveragePool does not count its pads before opset 7"
    kernel = list(m.root.attributes.get_ints("kernel_shape", ()))
    pads = spatial_pads(m, len(kernel) + 2)
    if isinstance(pads, str):
        return pads
    if pad_value(m) != 0:
        return "it does not pad with zeros"
    reason = cannot_pool(m, pads, kernel)
    if reason is None and any(own_pads(m.root, len(kernel)) or ()):
        return None if m.root.attributes.get_int("count_include_pad", 0) else "its own pads do not count"
    return reason


def replace(m: Match, new: Builder) -> ir.Value:
    """Add the pads to those of the pooling."""
    spatial_rank = len(m.root.attributes.get_ints("kernel_shape", ()))
    attributes = {**with_pads(m, m.root, spatial_rank), "count_include_pad": 1}
    return new.op("AveragePool", m["x"], attributes=attributes, like=m.root)


RULE = Rule("fold_pad_into_average_pool", op("AveragePool", PAD, name="pool"), replace, guard)
