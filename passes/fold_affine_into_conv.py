"""Fold a constant that is added to, subtracted from, or multiplied or divided into a Conv's output.

    x ─ Conv(w, b) ─ ·s ─ +t   ⇒   x ─ Conv(w·s, b·s + t)

one step at a time: x + c, x - c, c - x, x·c, x/c, where c is one number or one per channel.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._absorb import CONV, conv_channels, conv_with, weights_are_shared
from fuseonnx.passes._affine import arithmetic_affine, arithmetic_with_constant


def replace(m: Match, new: Builder) -> ir.Value:
    """Give the weights the scale and the shift."""
    scale, shift = arithmetic_affine(m, conv_channels(m), rank=m.array("w").ndim, axis=1)
    return conv_with(m, new, scale, shift)


RULE = Rule("fold_affine_into_conv", arithmetic_with_constant(CONV), replace, weights_are_shared)
