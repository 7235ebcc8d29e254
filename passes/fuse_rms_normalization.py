"""Fuse a division by the root of the mean square over the last axes into RMSNormalization.

    x / Sqrt(ReduceMean(x²) + ε)              ⇒   RMSNormalization(x, 1, ε)
    x · (Reciprocal(Sqrt(…)) · gamma)         ⇒   RMSNormalization(x, gamma, ε)

Source: Zhang & Sennrich 2019, arXiv:1910.07467, equation 4. `fold_affine_into_normalization` gives the first
form its gamma.

RMSNormalization came with opset 23.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import any_of, const, op, var
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._normalization import (
    axes_of,
    epsilon_of,
    is_trailing,
    is_unusual,
    over_root_mean_square,
    parameter,
    reciprocal_root,
)


def guard(m: Match) -> str | None:
    """Keep out of other axes than the last ones."""
    if m.opset < 23:
        return "RMSNormalization came with opset 23"
    return is_unusual(m) or (None if is_trailing(axes_of(m), m["x"]) else "the axes are not the last ones")


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the RMSNormalization."""
    axes = axes_of(m)
    assert axes is not None
    gamma = new.const(parameter(m, "gamma", axes, 1.0), m.get("gamma"))
    attributes = {"axis": -len(axes), "epsilon": epsilon_of(m)}
    return new.op("RMSNormalization", m["x"], gamma, attributes=attributes)


_X = var("x")

RULE = Rule(
    "fuse_rms_normalization",
    any_of(op("Mul", _X, op("Mul", reciprocal_root(_X), const("gamma"))), *over_root_mean_square(_X).options),
    replace,
    guard,
)
