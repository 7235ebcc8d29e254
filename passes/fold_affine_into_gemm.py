"""Fold a constant that is added to, subtracted from, or multiplied or divided into a Gemm's output.

    x ─ Gemm(w, c) ─ ·s ─ +t   ⇒   x ─ Gemm(w·s, β·c·s + t)

one step at a time: x + c, x - c, c - x, x·c, x/c, where c is one number or one per channel.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._absorb import GEMM, gemm_channels, gemm_with, weights_are_shared
from fuseonnx.passes._affine import Vector, arithmetic_affine, arithmetic_with_constant


def guard(m: Match) -> str | None:
    """Keep out of shared weights and of constants that are not one per channel."""
    if _affine(m) is None:
        return "the constant is not one per channel"
    return weights_are_shared(m)


def replace(m: Match, new: Builder) -> ir.Value:
    """Give the weights the scale and the shift."""
    affine = _affine(m)
    assert affine is not None
    return gemm_with(m, new, *affine)


def _affine(m: Match) -> tuple[Vector, Vector] | None:
    channels = gemm_channels(m)
    return None if channels is None else arithmetic_affine(m, channels, rank=2, axis=1)


RULE = Rule("fold_affine_into_gemm", arithmetic_with_constant(GEMM), replace, guard)
