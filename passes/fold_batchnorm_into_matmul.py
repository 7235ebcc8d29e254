"""Fold an inference BatchNormalization into the product of a matrix with constant weights before it.

    x ─ MatMul(w) ─ [+ b] ─ BatchNormalization(γ, β, μ, σ²)   ⇒   x ─ MatMul(w·s) ─ + (b·s + t)

with s = γ/√(σ² + ε) and t = β - μ·s. BatchNormalization normalises axis 1, which is the product's last axis
only when x is a matrix.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Builder
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._absorb import MATMUL, matmul_channels, matmul_with, weights_are_shared
from fuseonnx.passes._affine import batch_norm, batch_norm_affine, not_inference


def guard(m: Match) -> str | None:
    """Keep out of training mode, shared weights, and products that are not matrices."""
    if rank(m["x"]) != 2:
        return "the product is not known to be a matrix"
    if matmul_channels(m) is None:
        return "the weights or the bias vary along other axes"
    return not_inference(m) or weights_are_shared(m)


def replace(m: Match, new: Builder) -> ir.Value:
    """Give the weights the map of the BatchNormalization."""
    return matmul_with(m, new, *batch_norm_affine(m))


RULE = Rule("fold_batchnorm_into_matmul", batch_norm(MATMUL), replace, guard)
