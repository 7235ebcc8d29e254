"""Shared by the fusions of normalizations: (x - mean) / √(variance + ε) in the spellings of the exporters."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Refused
from fuseonnx.core.constants import Array, array_of
from fuseonnx.core.pattern import AnyOf, Op, Pattern, any_of, const, maybe, op, var
from fuseonnx.core.rule import Match
from fuseonnx.passes._dims import known_dims
from fuseonnx.passes._reduction import kept_axes
from fuseonnx.passes._scalars import FLOATS, is_number, scalar


def over_root_mean_square(x: Pattern) -> AnyOf:
    """Match x / √(mean(x²) + ε), divided or multiplied by the reciprocal."""
    shifted = _shifted_mean_square(x)
    return any_of(op("Div", x, _root(shifted)), op("Mul", x, reciprocal_root(x)))


def reciprocal_root(x: Pattern) -> AnyOf:
    """Match 1 / √(mean(x²) + ε)."""
    shifted = _shifted_mean_square(x)
    return any_of(
        op("Reciprocal", _root(shifted)),
        op("Div", const("one"), _root(shifted)),
        op("Pow", shifted, const("minus half")),
    )


def with_gamma(inverse: Pattern) -> AnyOf:
    """Match a factor, alone or times the constant `gamma`."""
    return any_of(op("Mul", inverse, const("gamma")), inverse)


def _shifted_mean_square(x: Pattern) -> Op:
    square = any_of(op("Pow", x, const("two")), op("Mul", x, x))
    mean = op("ReduceMean", square, maybe(var("square axes")), name="mean square")
    return op("Add", mean, const("epsilon"))


def _root(shifted: Pattern) -> AnyOf:
    return any_of(op("Sqrt", shifted), op("Pow", shifted, const("half")))


_X = var("x")
_MEAN = op("ReduceMean", _X, maybe(var("axes")), name="mean")
_CENTERED = op("Sub", _X, _MEAN, name="centered")
_FACTOR = with_gamma(reciprocal_root(_CENTERED))
_SCALED = op("Mul", _X, _FACTOR)

STANDARDIZED = any_of(
    *over_root_mean_square(_CENTERED).options,
    op("Add", _SCALED, op("Add", op("Mul", op("Neg", _MEAN), _FACTOR), const("beta"))),
    op("Add", _SCALED, op("Sub", const("beta"), op("Mul", _MEAN, _FACTOR))),
    op("Add", _SCALED, op("Mul", op("Neg", _MEAN), _FACTOR)),
    op("Sub", _SCALED, op("Mul", _MEAN, _FACTOR)),
)
"""(x - mean) / √(variance + ε), or Keras's x·f + (beta - mean·f) with f = gamma / √(variance + ε)."""


def axes_of(m: Match) -> tuple[int, ...] | None:
    """Return the axes over which mean and variance are taken; None if unknown, or not the same."""
    axes = kept_axes(m.node("mean square"))
    mean = m.captures.nodes.get("mean")
    return axes if mean is None or kept_axes(mean) == axes else None


def is_unusual(m: Match) -> str | None:
    """Return why the captured arithmetic is no normalization that onnxruntime has, or None."""
    x = m["x"]
    if x.dtype not in FLOATS:
        return "onnxruntime has no normalization of this dtype"
    numbers = {"two": 2.0, "one": 1.0, "half": 0.5, "minus half": -0.5}
    if not all(is_number(m, name, number, x) for name, number in numbers.items() if m.get(name) is not None):
        return "other constants"
    epsilon = scalar(m, "epsilon", x)
    return None if epsilon is not None and epsilon >= 0 else "epsilon is not a single number"


def epsilon_of(m: Match) -> float:
    """Return ε."""
    return float(array_of(m["epsilon"]).item())


def parameter(m: Match, name: str, axes: tuple[int, ...], default: float) -> Array:
    """Return gamma or beta as a tensor of the shape that x has on `axes`, `default` if it is not captured.

    Raises:
        Refused: it varies along other axes, or these axes of x are unknown.
    """
    dims = known_dims(m["x"])
    shape = [None] if dims is None else [dims[axis] for axis in axes]
    sizes = [size for size in shape if size is not None]
    if dims is None or len(sizes) < len(shape):
        raise Refused("the size of the normalized axes is unknown")
    assert m["x"].dtype is not None
    if m.get(name) is None:
        return np.full(sizes, default, m["x"].dtype.numpy())
    array = m.array(name)
    padded = (1,) * (len(dims) - array.ndim) + array.shape
    others = [size for axis, size in enumerate(padded) if axis not in axes]
    own = [size for axis, size in enumerate(padded) if axis in axes]
    fits = all(size in (1, full) for size, full in zip(own, sizes, strict=False))
    if len(padded) > len(dims) or set(others) - {1} or not fits:
        raise Refused(f"{name} varies along other axes")
    return np.broadcast_to(array.reshape(own), sizes)


def is_trailing(axes: tuple[int, ...] | None, x: ir.Value) -> bool:
    """Whether axes are the last ones of x."""
    axes_of_x = rank(x)
    return axes is not None and axes_of_x is not None and axes == tuple(range(axes[0], axes_of_x))


def is_spatial(axes: tuple[int, ...] | None, x: ir.Value) -> bool:
    """Whether axes are all those of an image [N, C, H, W] or a volume; of [N, ?, ?] it is not known."""
    return axes is not None and axes[0] == 2 and len(axes) > 1 and is_trailing(axes, x)
