"""Shared by the folds: the operators whose weights absorb a per-channel affine map of their output.

For each operator: the pattern that captures it, the size and place of its channel axis, and the operator
rebuilt so that it gives scale·y + shift instead of y. New weights are computed in float64, cast back, and
stored under a new name; a weight that others use is left alone.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Attributes, Builder
from fuseonnx.core.constants import Array, array_of
from fuseonnx.core.pattern import Pattern, any_of, const, maybe, op, var
from fuseonnx.core.rule import Match
from fuseonnx.passes._affine import Vector, along, cast_finite, cast_weights

CONV = op("Conv", var("x"), const("w"), maybe(const("b")), name="target")
CONV_TRANSPOSE = op("ConvTranspose", var("x"), const("w"), maybe(const("b")), name="target")
GEMM = op("Gemm", var("x"), const("w"), maybe(const("b")), name="target")
_PRODUCT = op("MatMul", var("x"), const("w"), name="target")
MATMUL: Pattern = any_of(op("Add", _PRODUCT, const("b"), name="add"), _PRODUCT)


def weights_are_shared(m: Match) -> str | None:
    """Return a reason if the captured weight has other users: folding would store it twice."""
    return "the weights are shared" if len(m["w"].uses()) > 1 else None


def conv_channels(m: Match) -> int:
    """Return M of a Conv's weight [M, C/group, k…]; the output has them on axis 1."""
    return _shape(m)[0]


def conv_with(m: Match, new: Builder, scale: Vector, shift: Vector) -> ir.Value:
    """Rebuild the Conv: w·scale along M, b·scale + shift."""
    w = m.array("w")
    return _rebuilt(m, new, w.astype(np.float64) * along(scale, 0, w.ndim), scale, shift)


def conv_transpose_channels(m: Match) -> int:
    """Return M of a ConvTranspose's weight [C, M/group, k…]; the output has them on axis 1."""
    return _shape(m)[1] * m.node("target").attributes.get_int("group", 1)


def conv_transpose_with(m: Match, new: Builder, scale: Vector, shift: Vector) -> ir.Value:
    """Rebuild the ConvTranspose: group g of the C inputs makes group g of the M outputs."""
    w = m.array("w").astype(np.float64)
    groups = m.node("target").attributes.get_int("group", 1)
    by_group = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    scaled = by_group * scale.reshape(groups, 1, w.shape[1], *(1,) * (w.ndim - 2))
    return _rebuilt(m, new, scaled.reshape(w.shape), scale, shift)


def gemm_channels(m: Match) -> int | None:
    """Return N of Gemm's α·A·B[K, N] + β·C; None if C varies along the rows too."""
    channels = _shape(m)[0 if m.node("target").attributes.get_int("transB", 0) else 1]
    return channels if _is_row(m.get("b"), channels) else None


def gemm_with(m: Match, new: Builder, scale: Vector, shift: Vector) -> ir.Value:
    """Rebuild the Gemm: B·scale along N, C = β·C·scale + shift with β = 1."""
    node, w = m.node("target"), m.array("w")
    axis = 0 if node.attributes.get_int("transB", 0) else 1
    beta = node.attributes.get_float("beta", 1.0)
    attributes: Attributes = {**node.attributes, "beta": 1.0}
    weights = w.astype(np.float64) * along(scale, axis, 2)
    return _rebuilt(m, new, weights, scale, shift, old_factor=beta, attributes=attributes)


def matmul_channels(m: Match) -> int | None:
    """Return N of a product with the weight [K, N]; None if the weight or the bias has another form.

    Before opset 7 a sum broadcasts only where an attribute says so, and products are left alone.
    """
    if m.opset < 7:
        return None
    shape = _shape(m)
    return shape[1] if len(shape) == 2 and _is_row(m.get("b"), shape[1], matmul_rank(m)) else None


def matmul_rank(m: Match) -> int:
    """Return the rank of the product, or 1 if it is unknown: constants of that rank fit any product."""
    return rank(m["x"]) or 1


def matmul_with(m: Match, new: Builder, scale: Vector, shift: Vector) -> ir.Value:
    """Rebuild x·w + b as x·(w·scale) + (b·scale + shift), without the sum if it adds nothing."""
    w = m.array("w")
    weights = cast_weights(w.astype(np.float64) * scale, w.dtype)
    product = new.op("MatMul", m["x"], new.const(weights, m["w"]), like=m.node("target"))
    if m.get("b") is None and not shift.any():
        return product
    bias = new.const(_bias(m, scale, shift, w.dtype), m.get("b"))
    return new.op("Add", product, bias, like=m.captures.nodes.get("add"))


def _rebuilt(
    m: Match,
    new: Builder,
    weights: Vector,
    scale: Vector,
    shift: Vector,
    *,
    old_factor: float = 1.0,
    attributes: Attributes | None = None,
) -> ir.Value:
    node, dtype = m.node("target"), m.array("w").dtype
    return new.op(
        node.op_type,
        m["x"],
        new.const(cast_weights(weights, dtype), m["w"]),
        new.const(_bias(m, scale * old_factor, shift, dtype), m.get("b")),
        attributes=attributes or node.attributes,
        like=node,
    )


def _bias(m: Match, scale: Vector, shift: Vector, dtype: np.dtype[np.generic]) -> Array:
    bias = m.get("b")
    old = 0.0 if bias is None else array_of(bias).astype(np.float64).reshape(-1)
    return cast_finite(old * scale + shift, dtype)


def _shape(m: Match) -> tuple[int, ...]:
    return m.array("w").shape


def _is_row(bias: ir.Value | None, channels: int, max_rank: int = 2) -> bool:
    """Whether a bias is absent, or one number for each channel (or for all)."""
    if bias is None:
        return True
    shape = array_of(bias).shape
    size = math.prod(shape)
    return len(shape) <= max_rank and size in {1, channels} and shape[-1:] in {(), (size,)}
