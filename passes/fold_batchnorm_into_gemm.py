"""Fold an inference BatchNormalization into the Gemm before it (with or without transB).

    x ─ Gemm(w, c) ─ BatchNormalization(γ, β, μ, σ²)   ⇒   x ─ Gemm(w·s, β·c·s + t)

with s = γ/√(σ² + ε) and t = β - μ·s (β of Gemm before t).
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._absorb import GEMM, gemm_channels, gemm_with, weights_are_shared
from fuseonnx.passes._affine import batch_norm, batch_norm_affine, not_inference


def guard(m: Match) -> str | None:
    """Keep out of training mode, of shared weights and of a C that varies along the rows."""
    if gemm_channels(m) is None:
        return "C is not one row"
    return not_inference(m) or weights_are_shared(m)


def replace(m: Match, new: Builder) -> ir.Value:
    """Give the weights the map of the BatchNormalization."""
    return gemm_with(m, new, *batch_norm_affine(m))


RULE = Rule("fold_batchnorm_into_gemm", batch_norm(GEMM), replace, guard)
