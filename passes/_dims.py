"""Shared by the rewrites that compare shapes: which dims are numbers, and what a broadcast does to them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from fuseonnx.analysis.symbolic import dims_of


def known_dims(x: ir.Value) -> list[int | None] | None:
    """Return each dim of `x`, None where it is no number; None if the rank is unknown."""
    if x.shape is None:
        return None
    return [dim if isinstance(dim, int) else None for dim in x.shape]


def derived_dims(x: ir.Value) -> list[int | None] | None:
    """Return the same, but from symbols too, which tell more than what onnx infers and is noted first.

    For estimates of cost: what looks cheaper before all is known would be undone later.
    """
    dims = dims_of(x)
    return None if dims is None else [dim if isinstance(dim, int) else None for dim in dims]


def keeps_shape(x: ir.Value, dims: Sequence[int]) -> bool:
    """Whether broadcasting `x` with a tensor of shape `dims` surely gives the shape of `x`.

    It does if no axis is added, and each dim is 1 or the known size of the axis of `x` that it meets.
    """
    if not dims:
        return True
    sizes = known_dims(x)
    if sizes is None or len(dims) > len(sizes):
        return False
    met = sizes[len(sizes) - len(dims) :]
    return all(dim in (1, size) for dim, size in zip(dims, met, strict=True))
