"""Fuse a normalization of each channel over all spatial axes into InstanceNormalization.

    (x - ReduceMean(x)) / Sqrt(ReduceMean((x - ReduceMean(x))²) + ε)   ⇒   InstanceNormalization(x, 1, 0, ε)
    x·f + (b - ReduceMean(x)·f), f = g / Sqrt(…)                       ⇒   InstanceNormalization(x, g, b, ε)

for x [N, C, spatial…] of rank 4 or more. Source: Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022,
section 2. `fold_affine_into_normalization` gives the first form its g and b.
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
    is_unusual,
    parameter,
)

_CHANNELS = (1,)


def guard(m: Match) -> str | None:
    """Keep out of other axes than all spatial ones."""
    if m.opset < 7:
        return "arithmetic does not broadcast before opset 7"
    return is_unusual(m) or (None if is_spatial(axes_of(m), m["x"]) else "the axes are not the spatial ones")


def replace(m: Match, new: Builder) -> ir.Value:
    """Build the InstanceNormalization."""
    gamma, beta = (
        parameter(m, name, _CHANNELS, default) for name, default in (("gamma", 1.0), ("beta", 0.0))
    )
    return new.op(
        "InstanceNormalization",
        m["x"],
        new.const(gamma, m.get("gamma")),
        new.const(beta, m.get("beta")),
        attributes={"epsilon": epsilon_of(m)},
    )


RULE = Rule("fuse_instance_normalization", STANDARDIZED, replace, guard)
