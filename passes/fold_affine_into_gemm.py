"""Fold a constant that is added to, subtracted from, or multiplied or divided into a Gemm's output.

    x ─ Gemm(w, c) ─ ·s ─ +t   ⇒   x ─ Gemm(w·s, β·c·s + t)

one step at a time: x + c, x - c, c - x, x·c, x/c, where c is one number or one per channel.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._absorb import GEMM, gemm_channels, gemm_with, weights_are_shared
from fuseonnx.passes._affine import arithmetic_affine, arithmetic_with_constant


def replace(m: Match, new: Builder) -> ir.Value:
    """Give the weights the scale and the shift."""
    scale, shift = arithmetic_affine(m, gemm_channels(m), rank=2, axis=1)
    return gemm_with(m, new, scale, shift)


RULE = Rule("fold_affine_into_gemm", arithmetic_with_constant(GEMM), replace, weights_are_shared)
