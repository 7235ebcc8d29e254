"""Fold an inference BatchNormalization into the Conv before it (1D, 2D and 3D, with groups and depthwise).

    x ─ Conv(w, b) ─ BatchNormalization(γ, β, μ, σ²)   ⇒   x ─ Conv(w·s, b·s + t)

with s = γ/√(σ² + ε) and t = β - μ·s.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._absorb import CONV, conv_with, weights_are_shared
from fuseonnx.passes._affine import batch_norm, batch_norm_affine, not_inference


def guard(m: Match) -> str | None:
    """Keep out of training mode, of shared weights."""
    return not_inference(m) or weights_are_shared(m)


def replace(m: Match, new: Builder) -> ir.Value:
    """Give the weights the map of the BatchNormalization."""
    return conv_with(m, new, *batch_norm_affine(m))


RULE = Rule("fold_batchnorm_into_conv", batch_norm(CONV), replace, guard)
