"""Shared by the folds: the per-channel affine maps y = scale·x + shift that a graph spells out.

They are read in float64; `cast_weights` and `cast_finite` bring what they are folded into back to its dtype.
"""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import numpy.typing as npt

from fuseonnx.core.builder import Refused
from fuseonnx.core.constants import Array
from fuseonnx.core.pattern import AnyOf, Op, Pattern, any_of, const, op
from fuseonnx.core.rule import Match

Vector = npt.NDArray[np.float64]


def batch_norm(x: Pattern) -> Op:
    """Match an inference BatchNormalization of `x` with constant statistics."""
    return op("BatchNormalization", x, const("gamma"), const("beta"), const("mean"), const("var"), name="bn")


def not_inference(m: Match) -> str | None:
    """Return why the captured BatchNormalization `bn` is not the plain inference form, or None.

    Inference is `training_mode=0` since opset 14, a single output in 7–13 and `is_test=1` before; `spatial=0`
    (before opset 9) has statistics per element.
    """
    bn = m.node("bn")
    flags = bn.attributes
    if m.opset >= 14:
        training = flags.get_int("training_mode", 0) != 0
    elif m.opset >= 7:
        training = any(output.name for output in bn.outputs[1:])
    else:
        training = not flags.get_int("is_test", 0)
    if training:
        return "BatchNormalization in training mode"
    if not flags.get_int("spatial", 1):
        return "BatchNormalization per element"
    if any(output.uses() or output.is_graph_output() for output in bn.outputs[1:]):
        return "running statistics are used"
    return None


def batch_norm_affine(m: Match) -> tuple[Vector, Vector]:
    """Return scale = gamma/√(var + epsilon) and shift = beta - mean·scale, each [C].

    Source: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 2.
    """
    epsilon = m.node("bn").attributes.get_float("epsilon", 1e-5)
    gamma, beta, mean, var = (m.array(name).astype(np.float64) for name in ("gamma", "beta", "mean", "var"))
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = gamma / np.sqrt(var + epsilon)
    return scale, beta - mean * scale


def arithmetic_with_constant(x: Pattern) -> AnyOf:
    """Match x+c, x-c, c-x, x·c or x/c as `affine`, c being the constant `c`; c/x is not affine."""
    return any_of(
        op(("Add", "Mul"), x, const("c"), name="affine"),
        op(("Sub", "Div"), x, const("c"), name="affine"),
        op("Sub", const("c"), x, name="affine"),
    )


def arithmetic_affine(m: Match, channels: int | None, rank: int, axis: int) -> tuple[Vector, Vector]:
    """Return scale and shift, each [channels], of the captured `affine`.

    Args:
        m: a match of `arithmetic_with_constant`.
        channels: size of the channel axis; None if the operator has no such axis.
        rank: rank of the tensor that c is combined with; c must not raise it.
        axis: the channel axis, not negative.

    Raises:
        Refused: c varies along other axes (before opset 7 the attribute `axis` may say which), or holds
            integers, whose division truncates.
    """
    c, node = m.array("c"), m.node("affine")
    padded = (1,) * (rank - c.ndim) + c.shape
    others = math.prod(padded) // (padded[axis] or 1)
    fits = c.ndim <= rank and others == 1 and padded[axis] in (1, channels)
    if channels is None or not fits or not is_float(c.dtype) or "axis" in node.attributes:
        raise Refused("the constant is not one per channel")
    vector = np.broadcast_to(c.astype(np.float64).reshape(-1), (channels,))
    one, zero = np.ones(channels), np.zeros(channels)
    if node.op_type == "Mul":
        return vector, zero
    if node.op_type == "Div":
        with np.errstate(divide="ignore"):
            return one / vector, zero
    if node.op_type == "Add":
        return one, vector
    return (-one, vector) if node.inputs[0] is m["c"] else (one, -vector)


def is_float(dtype: np.dtype[np.generic]) -> bool:
    """Whether a dtype is a float of 16 bits or more; numpy does not count bfloat16 as one."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def cast_weights(array: npt.NDArray[np.float64], dtype: np.dtype[np.generic]) -> Array:
    """Return `array` as `dtype`.

    Raises:
        Refused: it is out of the dtype's range, or all so small that it would lose digits.
    """
    result = cast_finite(array, dtype)
    largest = max(float(result.max(initial=0)), -float(result.min(initial=0)))
    if largest < ml_dtypes.finfo(dtype).smallest_normal and array.any():  # type: ignore[no-untyped-call]
        raise Refused(f"the folded weights do not fit {dtype.name}")
    return result


def cast_finite(array: npt.NDArray[np.float64], dtype: np.dtype[np.generic]) -> Array:
    """Return `array` as `dtype`.

    Raises:
        Refused: it holds infinities or NaN, or the dtype cannot hold its range.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        result = array.astype(dtype)
    if not np.isfinite(result).all():
        raise Refused(f"the folded weights do not fit {dtype.name}")
    return result


def along(vector: Vector, axis: int, rank: int) -> Vector:
    """Reshape a vector so that it broadcasts along `axis` of a tensor of `rank`."""
    return vector.reshape(tuple(-1 if index == axis else 1 for index in range(rank)))
