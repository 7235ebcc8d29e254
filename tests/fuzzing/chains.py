"""Random runs of operators that merge with, undo or absorb each other."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from tests.fuzzing.cutting import concat, pad, slice_, slice_to
from tests.fuzzing.elementwise import activation, arithmetic, constant_for, reduce_over
from tests.fuzzing.layout import flatten, reshape, squeeze, transpose, unsqueeze, with_axes
from tests.fuzzing.linear import conv, is_image, pool
from tests.fuzzing.scope import FLOATS, INTS, Scope, Shape, Skip, Value, is_float, is_number, signed, static

Maker = Callable[[Scope, Value | None], Value]


def bounds(g: Scope) -> Value:
    """Add Clip, Relu, Min and Max with scalars in a row; the ranges may exclude each other."""
    x = g.pick(lambda value: is_float(value) and (g.opset >= 12 or value.dtype == TensorProto.FLOAT))
    for _ in range(g.between(2, 4)):
        name = g.choose(("Relu", "Clip", "Min", "Max"))
        if name in ("Min", "Max"):
            end = g.const(np.full(g.choose(((), (), (1,))), g.choose((-1.0, 0.0, 2.0, 6.0))), x.dtype)
            x = arithmetic(g, name, x, end)
        else:
            x = activation(g, name, x)
    return x


def affine(g: Scope) -> Value:
    """Add two to four of Mul, Add, Sub, Div and Neg with constants, now and then through a Relu."""
    x = g.pick(is_number)
    for _ in range(g.between(2, 4)):
        if x.dtype in FLOATS and g.chance(0.2):
            x = activation(g, g.choose(("Relu", "Neg", "LeakyRelu")), x)
        c = constant_for(g, x)
        name = g.choose(("Mul", "Mul", "Add", "Add", "Sub", "Div"))
        same_rank = c if c.rank <= x.rank or g.chance(0.3) else g.numbers((1,), x.dtype)
        x = arithmetic(g, name, x, same_rank)
    return x


def casts(g: Scope) -> Value:
    """Add two or three Casts, of which only those that lose nothing may go."""
    x = g.pick(lambda value: value.exact)
    start = x.dtype
    wide: list[int] = [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.INT32]
    for _ in range(g.between(1, 2)):
        to = g.choose((*wide, TensorProto.BOOL))
        exact = x.dtype not in FLOATS or to not in FLOATS or to in (TensorProto.DOUBLE, x.dtype)
        bound = 1.0 if to == TensorProto.BOOL else x.bound
        x = g.op("Cast", [x], x.shape, dtype=to, exact=exact and x.exact, bound=bound, to=to)
    return g.op("Cast", [x], x.shape, dtype=start, to=start) if g.chance(0.6) else x


def shapes(g: Scope) -> Value:
    """Add two or three of Reshape, Flatten, Squeeze, Unsqueeze and Transpose in a row."""
    return _row(g, (reshape, reshape, flatten, squeeze, unsqueeze, transpose), g.between(2, 3))


def slices(g: Scope) -> Value:
    """Add Slices of a Slice, or the Slices of an axis that make it up, used apart or joined again."""
    if g.chance(0.3):
        return _row(g, (slice_,), 2)
    x = g.pick(lambda value: any(static(dim) and dim[0] > 1 for dim in value.shape))
    axis = g.choose([axis for axis, dim in enumerate(x.shape) if static(dim) and dim[0] > 1])
    total = x.shape[axis][0]
    edges = sorted({0, total, g.between(1, total - 1), g.between(1, total - 1)})
    parts = [
        slice_to(g, x, [(axis, start, end if end < total or g.chance(0.5) else 2**31 - 1, 1)])
        for start, end in itertools.pairwise(edges)
    ]
    if is_float(x) and g.chance(0.5):
        parts = [activation(g, "Relu", part) if g.chance(0.5) else part for part in parts]
    if g.chance(0.5):
        return g.choose(parts)
    return g.op("Concat", parts, x.shape, axis=signed(g, axis, x.rank))


def joins(g: Scope) -> Value:
    """Add a Concat of Concats, or of the parts of a Split."""
    return _row(g, (concat,), g.between(2, 3))


def padded(g: Scope) -> Value:
    """Add one or two Pads, then what may take them up: a Conv or a pool."""
    x = g.pick(lambda value: is_image(value) and value.rank < 5)
    if g.chance(0.3):
        x = activation(g, "Relu", x)
    if g.chance(0.2):
        filled = pad(g, x, first=2, fill=-np.inf)
        try:
            return pool(g, filled, smallest=2)
        finally:
            g.world.infinite = True
    for _ in range(g.choose((1, 1, 2))):
        x = pad(g, x, first=2)
    return g.choose((conv, conv, pool))(g, x)


def reduced(g: Scope) -> Value:
    """Add a reduction of a reduction, or one that a Squeeze, Unsqueeze or Reshape follows."""
    x = g.pick(lambda value: is_float(value) and value.rank > 1)
    name = g.choose(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"))
    axis, keep = g.between(0, x.rank - 1), g.choose((0, 1))
    y = reduce_over(g, name, x, [axis], keepdims=keep)
    kind = g.between(0, 3)
    if kind == 0 and y.rank:
        other = g.choose(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")) if g.chance(0.2) else name
        return reduce_over(g, other, y, [g.between(0, y.rank - 1)], keepdims=g.choose((keep, 0, 1)))
    if kind == 1 and keep:
        return with_axes(g, "Squeeze", y, (*x.shape[:axis], *x.shape[axis + 1 :]), [axis])
    if kind == 2:
        return reshape(g, y)
    return unsqueeze(g, y)


def gathers(g: Scope) -> Value:
    """Add a Gather of a Gather along one axis, or the rows of a value taken one by one."""
    x = g.pick(lambda value: value.rank > 0 and min(value.shape[0]) > 1)
    exact: dict[str, bool | float | int] = {"dtype": x.dtype, "exact": x.exact, "bound": x.bound}
    if g.chance(0.5):
        first = g.const(g.rng.integers(0, min(x.shape[0]), 3))
        y = g.op("Gather", [x, first], ((3, 3), *x.shape[1:]), axis=0, **exact)  # type: ignore[arg-type]
        index = g.const(g.choose((np.array(1), np.array([2, 0]))))
        return g.op("Gather", [y, index], (*index.shape, *x.shape[1:]), axis=0, **exact)  # type: ignore[arg-type]
    rows = [
        g.op("Gather", [x, g.const(index)], x.shape[1:], axis=0, **exact)  # type: ignore[arg-type]
        for index in range(min(x.shape[0]))
    ]
    return g.choose(rows)


def arg(g: Scope) -> Value:
    """Add ArgMax or ArgMin, often of what a growing function made of an exact value."""
    x = g.pick(
        lambda value: value.exact and value.rank > 0 and value.dtype in (TensorProto.FLOAT, TensorProto.INT64)
    )
    axis = g.between(0, x.rank - 1)
    if x.dtype in INTS or (g.opset < 13 and x.rank < 2):
        raise Skip
    if g.chance(0.6):
        name = g.choose(("Softmax", "LogSoftmax", "Sigmoid", "Relu", "Neg", "Mul"))
        if name == "Mul":
            x = arithmetic(g, name, x, g.const(np.array(g.choose((2.0, -2.0))), x.dtype))
        elif name.endswith("Softmax"):
            last = x.rank - 1
            axis = last if g.opset < 13 else axis
            x = g.op(name, [x], x.shape, axis=axis)
        else:
            x = g.op(name, [x], x.shape)
    keep = g.choose((0, 1))
    one: Shape = ((1, 1),) if keep else ()
    shape = (*x.shape[:axis], *one, *x.shape[axis + 1 :])
    name = g.choose(("ArgMax", "ArgMin"))
    size = float(max(x.shape[axis]))
    return g.op(name, [x], shape, dtype=TensorProto.INT64, exact=True, bound=size, axis=axis, keepdims=keep)


def _row(g: Scope, makers: tuple[Maker, ...], count: int) -> Value:
    made = g.choose(makers)(g, None)
    for _ in range(count - 1):
        made = g.choose(makers)(g, made)
    return made
