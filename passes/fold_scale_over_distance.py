"""Fold a constant scale into weights that lie some operators before or behind it.

    x ─ Conv(w, b) ─ Relu ─ MaxPool ─ ·s            ⇒   x ─ Conv(w·s, b·s) ─ Relu ─ MaxPool
    x ─ MatMul(w) ─ Reshape ─ Transpose ─ ·s ─ y    ⇒   x ─ MatMul(w·s) ─ Reshape ─ Transpose ─ y
    x ─ ·s ─ + t ─ Conv(w, b)                       ⇒   x ─ + t/s ─ Conv(w·s, b)

The scale is one number, or one for each index of an axis. It passes what commutes with it (Relu and MaxPool
only if it is positive; a sum with both its terms; a product with one factor; Concat and Split by parts) and
ends in the weights of Conv, ConvTranspose, Gemm, MatMul and the normalizations, or in another constant. On
the way up each value has one user; on the way down every user absorbs it. Spelled-out Gelu and normalizations
stay as they are, because onnxruntime fuses them.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._distance import fold_changes

_NAME = "fold_scale_over_distance"


def run(model: ir.Model, journal: Journal) -> None:
    """Fold each Mul and Div by constants that has weights within reach."""
    fold_changes(model, journal, _NAME, frozenset({"Mul", "Div"}))


RULE = GraphPass(_NAME, run)
