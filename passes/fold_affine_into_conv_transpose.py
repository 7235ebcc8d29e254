"""Fold a constant that is added to, subtracted from, or multiplied or divided into a ConvTranspose's output.

    x ─ ConvTranspose(w, b) ─ ·s ─ +t   ⇒   x ─ ConvTranspose(w·s, b·s + t)

one step at a time: x + c, x - c, c - x, x·c, x/c, where c is one number or one per channel.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._absorb import (
    CONV_TRANSPOSE,
    conv_transpose_channels,
    conv_transpose_with,
    weights_are_shared,
)
from fuseonnx.passes._affine import arithmetic_affine, arithmetic_with_constant


def replace(m: Match, new: Builder) -> ir.Value:
    """Give the weights the scale and the shift."""
    scale, shift = arithmetic_affine(m, conv_transpose_channels(m), rank=m.array("w").ndim, axis=1)
    return conv_transpose_with(m, new, scale, shift)


RULE = Rule(
    "fold_affine_into_conv_transpose", arithmetic_with_constant(CONV_TRANSPOSE), replace, weights_are_shared
)
