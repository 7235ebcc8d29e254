"""Fold a constant that is added into biases that lie some operators before or behind it.

    x ─ Conv(w, b) ─ Concat ─ + t         ⇒   x ─ Conv(w, b + t) ─ Concat
    x ─ + t ─ Conv(w, b) without pads     ⇒   x ─ Conv(w, b + Σ w·t)
    x ─ + t ─ Transpose ─ Gemm(w, b)      ⇒   x ─ Transpose ─ Gemm(w, b + t·w)

The shift is one number, or one for each index of an axis. It passes what commutes with it (MaxPool, pooling
without pads, Transpose, Reshape, Concat and Split by parts), and ends in a bias. On the way up each value has
one user; on the way down every user absorbs it.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._distance import fold_changes

_NAME = "fold_shift_over_distance"


def run(model: ir.Model, journal: Journal) -> None:
    """Fold each Add and Sub of constants that has biases within reach."""
    fold_changes(model, journal, _NAME, frozenset({"Add", "Sub"}))


RULE = GraphPass(_NAME, run)
