"""Fold an inference BatchNormalization into weights that lie some operators before or behind it.

    x ─ Conv(w, b) ─ Concat ─ BatchNormalization   ⇒   x ─ Conv(w·s, b·s + t) ─ Concat
    x ─ BatchNormalization ─ Conv(w, b)            ⇒   x ─ Conv(w·s, b + Σ w·t), if it has no pads

with s = γ/√(σ² + ε) and t = β - μ·s. It goes where `fold_scale_over_distance` takes s and
`fold_shift_over_distance` takes t, if both end there.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._distance import fold_changes

_NAME = "fold_batchnorm_over_distance"


def run(model: ir.Model, journal: Journal) -> None:
    """Fold each BatchNormalization that has weights within reach."""
    fold_changes(model, journal, _NAME, frozenset({"BatchNormalization"}))


RULE = GraphPass(_NAME, run)
