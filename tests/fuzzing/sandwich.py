"""Random Transposes with neighbours that they may move through, as channels-last exports have them."""

from __future__ import annotations

import math
from collections.abc import Callable

from tests.fuzzing import cutting, elementwise
from tests.fuzzing.elementwise import activation, arithmetic, constant_for, reduce_over
from tests.fuzzing.layout import reshape, squeeze, unsqueeze
from tests.fuzzing.linear import conv, is_image, matmul, pool
from tests.fuzzing.scope import Scope, Skip, Value, is_float


def sandwich(g: Scope) -> Value:
    """Add Transpose, one to three operators, and most often the inverse Transpose."""
    x = g.pick(lambda value: is_float(value) and value.rank > 1)
    order = _order(g, x.rank)
    y = turn(g, x, order)
    for _ in range(g.between(1, 3)):
        y = g.choose(_NEIGHBOURS)(g, y)
    if y.rank != x.rank or g.chance(0.2):
        return y
    return turn(g, y, [order.index(axis) for axis in range(x.rank)])


def meeting(g: Scope) -> Value:
    """Add an operator that reads two or three values transposed alike, or one of them in another way."""
    x = g.pick(lambda value: is_float(value) and value.rank > 1)
    order = _order(g, x.rank)
    parts = [turn(g, x, order)]
    for _ in range(g.between(1, 2)):
        other = g.pick(lambda value: value.dtype == x.dtype and value.shape == x.shape)
        other = activation(g, "Relu", other) if g.chance(0.4) else other
        parts.append(turn(g, other, order))
    if g.chance(0.5):
        axis = g.between(0, x.rank - 1)
        size = len(parts)
        dims = parts[0].shape
        joined = (dims[axis][0] * size, dims[axis][1] * size)
        y = g.op("Concat", parts, (*dims[:axis], joined, *dims[axis + 1 :]), axis=axis)
    else:
        y = g.op("Sum" if len(parts) > 2 else "Add", parts, parts[0].shape, bound=3 * x.bound, exact=False)
    return turn(g, y, [order.index(axis) for axis in range(x.rank)]) if g.chance(0.8) else y


def turn(g: Scope, x: Value, order: list[int]) -> Value:
    """Add a Transpose."""
    return g.op("Transpose", [x], tuple(x.shape[axis] for axis in order), perm=order)


def _order(g: Scope, rank: int) -> list[int]:
    if rank > 2 and g.chance(0.6):
        return g.choose(([0, *range(2, rank), 1], [0, rank - 1, *range(1, rank - 1)]))
    order: list[int] = g.rng.permutation(rank).tolist()
    return order


def _with_constant(g: Scope, x: Value) -> Value:
    return arithmetic(g, g.choose(("Add", "Mul", "Sub")), x, constant_for(g, x))


def _reduced(g: Scope, x: Value) -> Value:
    if not x.rank:
        raise Skip
    axes = sorted({g.between(0, x.rank - 1), g.between(0, x.rank - 1)})
    return reduce_over(g, g.choose(("ReduceMean", "ReduceMax")), x, axes, keepdims=g.choose((0, 1, 1)))


def _softmax(g: Scope, x: Value) -> Value:
    return activation(g, "Softmax", x)


def _spatial(g: Scope, x: Value) -> Value:
    if not is_image(x) or math.prod(x.sizes(0)) > 1000:
        raise Skip
    return g.choose((conv, pool))(g, x)


_NEIGHBOURS: tuple[Callable[[Scope, Value], Value], ...] = (
    elementwise.unary,
    elementwise.unary,
    elementwise.binary,
    elementwise.cast,
    _with_constant,
    _with_constant,
    _reduced,
    _softmax,
    _spatial,
    matmul,
    cutting.concat,
    cutting.split,
    cutting.pad,
    cutting.slice_,
    cutting.gather,
    reshape,
    squeeze,
    unsqueeze,
)
