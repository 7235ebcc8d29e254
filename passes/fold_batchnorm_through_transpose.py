"""Fold an inference BatchNormalization into the product with constant weights before it, past a Transpose.

    x ─ MatMul(w) ─ [+ b] ─ Transpose(0, 2, 1) ─ BatchNormalization(γ, β, μ, σ²)
    ⇒   x ─ MatMul(w·s) ─ + (b·s + t) ─ Transpose(0, 2, 1)

with s = γ/√(σ² + ε) and t = β - μ·s, where the Transpose makes axis 1 of the product's last axis.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import op
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._absorb import MATMUL, matmul_channels, matmul_with, weights_are_shared
from fuseonnx.passes._affine import batch_norm, batch_norm_affine, not_inference


def guard(m: Match) -> str | None:
    """Keep out of training mode, shared weights, and of other channels than the product's columns."""
    perm = m.node("transpose").attributes.get_ints("perm", ())
    if len(perm) < 2 or perm[1] != len(perm) - 1:
        return "the columns do not become the channels"
    if matmul_channels(m) is None:
        return "the weights or the bias vary along other axes"
    return not_inference(m) or weights_are_shared(m)


def replace(m: Match, new: Builder) -> ir.Value:
    """Give the weights the map of the BatchNormalization, and transpose after it."""
    product = matmul_with(m, new, *batch_norm_affine(m))
    transpose = m.node("transpose")
    return new.op("Transpose", product, attributes=transpose.attributes, like=transpose)


RULE = Rule(
    "fold_batchnorm_through_transpose",
    batch_norm(op("Transpose", MATMUL, name="transpose")),
    replace,
    guard,
)
