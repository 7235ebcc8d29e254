"""Fold a Pad into the pads of the MaxPool behind it, where what it pads with can never be the maximum.

    x ─ Pad(p, -∞) ─ MaxPool(pads=q)          ⇒   x ─ MaxPool(pads=p+q)
    x ─ Relu ─ Pad(p, 0) ─ MaxPool(pads=q)    ⇒   x ─ Relu ─ MaxPool(pads=p+q)

MaxPool leaves its own pads out. Zeros, too, may be left out where x has nothing below 0, because each window
meets x: the pads are smaller than the window.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._pads import PAD, cannot_pool, pad_value, spatial_pads, with_pads
from fuseonnx.passes._signs import is_non_negative


def guard(m: Match) -> str | None:
    """Keep out unless only spatial axes are padded, by less than the window, and never with the maximum."""
    kernel = list(m.root.attributes.get_ints("kernel_shape", ()))
    pads = spatial_pads(m, len(kernel) + 2)
    if isinstance(pads, str):
        return pads
    reason = cannot_pool(m, pads, kernel)
    if reason is not None:
        return reason
    if pad_value(m) <= _lowest(m["x"]) or (pad_value(m) <= 0 and is_non_negative(m["x"])):
        return None
    return "what it pads with may be the maximum"


def replace(m: Match, new: Builder) -> ir.Value:
    """Add the pads to those of the pooling."""
    spatial_rank = len(m.root.attributes.get_ints("kernel_shape", ()))
    return new.op("MaxPool", m["x"], attributes=with_pads(m, m.root, spatial_rank), like=m.root)


def _lowest(x: ir.Value) -> float:
    """Return the least number of the dtype; -∞ if the dtype is unknown."""
    is_integer = x.dtype is not None and x.dtype.is_integer()
    return float(np.iinfo(x.dtype.numpy()).min) if x.dtype is not None and is_integer else -np.inf


RULE = Rule("fold_pad_into_max_pool", op("MaxPool", PAD, name="pool"), replace, guard)
