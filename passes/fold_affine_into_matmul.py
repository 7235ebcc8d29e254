"""Fold a constant scale, or a second constant term, into a product with constant weights.

    x ─ MatMul(w) ─ [+ b] ─ ·s   ⇒   x ─ MatMul(w·s) ─ [+ b·s]
    x ─ MatMul(w) ─ + b ─ + t    ⇒   x ─ MatMul(w) ─ + (b + t)

where s and t are one number, or one for each column of w.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._absorb import MATMUL, matmul_channels, matmul_rank, matmul_with, weights_are_shared
from fuseonnx.passes._affine import arithmetic_affine, arithmetic_with_constant


def guard(m: Match) -> str | None:
    """Keep out of shared weights, and of a sum that is itself the bias."""
    if m.get("b") is None and m.node("affine").op_type in {"Add", "Sub"}:
        return ""
    return weights_are_shared(m)


def replace(m: Match, new: Builder) -> ir.Value:
    """Give weights and bias the scale and the shift."""
    rank = matmul_rank(m)
    scale, shift = arithmetic_affine(m, matmul_channels(m), rank, axis=rank - 1)
    return matmul_with(m, new, scale, shift)


RULE = Rule("fold_affine_into_matmul", arithmetic_with_constant(MATMUL), replace, guard)
