"""Fuse a normalization over the last axes into LayerNormalization.

    (x - ReduceMean(x)) / Sqrt(ReduceMean((x - ReduceMean(x))²) + ε)   ⇒   LayerNormalization(x, 1, 0, ε)
    x·f + (b - ReduceMean(x)·f), f = g / Sqrt(…)                       ⇒   LayerNormalization(x, g, b, ε)

Source: Ba, Kiros & Hinton 2016, arXiv:1607.06450, equation 4. `fold_affine_into_normalization` gives the
first form its g and b; `fuse_instance_normalization` takes the spatial axes of images. A variance
spelled as mean(x²) - mean(x)² loses digits, and stays.

LayerNormalization came with opset 17.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._normalization import (
    STANDARDIZED,
    axes_of,
    epsilon_of,
    is_spatial,
    is_trailing,
    is_unusual,
    parameter,
)


def guard(m: Match) -> str | None:
    """Keep out of other axes than the last ones."""
    if m.opset < 17:
        return "LayerNormalization came with opset 17"
    axes = axes_of(m)
    if is_spatial(axes, m["x"]) or not is_trailing(axes, m["x"]):
        return "the axes are not the last ones"
    return is_unusual(m)


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the LayerNormalization."""
    axes = axes_of(m)
    assert axes is not None
    gamma, beta = (parameter(m, name, axes, default) for name, default in (("gamma", 1.0), ("beta", 0.0)))
    attributes = {"axis": -len(axes), "epsilon": epsilon_of(m)}
    return new.op(
        "LayerNormalization",
        m["x"],
        new.const(gamma, m.get("gamma")),
        new.const(beta, m.get("beta")),
        attributes=attributes,
    )


RULE = Rule("fuse_layer_normalization", STANDARDIZED, replace, guard)
