"""Fold an inference BatchNormalization into the product with constant weights before it, past a Reshape.

    x ─ MatMul(w) ─ [+ b] ─ Reshape([-1, N]) ─ BatchNormalization(γ, β, μ, σ²)
    ⇒   x ─ MatMul(w·s) ─ + (b·s + t) ─ Reshape([-1, N])

with s = γ/√(σ² + ε) and t = β - μ·s: a Reshape to rows of N keeps the N columns of the product as they are.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._absorb import MATMUL, matmul_channels, matmul_with, weights_are_shared
from fuseonnx.passes._affine import batch_norm, batch_norm_affine, not_inference
from fuseonnx.passes._dims import known_dims


def guard(m: Match) -> str | None:
    """Keep out of training mode, shared weights, and reshapes that break the columns up."""
    channels = matmul_channels(m)
    if channels is None:
        return "the weights or the bias vary along other axes"
    dims = known_dims(m.node("reshape").outputs[0])
    if dims is None or len(dims) != 2 or dims[1] != channels:
        return "the columns are not known to stay as they are"
    return not_inference(m) or weights_are_shared(m)


def replace(m: Match, new: Builder) -> ir.Value:
    """Give the weights the map of the BatchNormalization, and reshape after it."""
    product = matmul_with(m, new, *batch_norm_affine(m))
    reshape = m.node("reshape")
    return new.op("Reshape", product, *reshape.inputs[1:], attributes=reshape.attributes, like=reshape)


RULE = Rule(
    "fold_batchnorm_through_reshape",
    batch_norm(op("Reshape", MATMUL, var("target"), name="reshape")),
    replace,
    guard,
)
