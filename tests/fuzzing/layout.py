"""Random operators that change shapes and orders, and chains that compute a target shape."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto, helper

from tests.fuzzing.cutting import slice_to
from tests.fuzzing.scope import (
    Dim,
    Scope,
    Shape,
    Skip,
    Value,
    anything,
    by_run,
    signed,
    static,
)


def transpose(g: Scope, given: Value | None = None) -> Value:
    """Add a Transpose, also the identity and the default order."""
    x = g.pick(anything, given)
    order = g.rng.permutation(x.rank).tolist() if g.chance(0.7) else list(range(x.rank))
    if not x.rank or g.chance(0.2):
        return g.op("Transpose", [x], x.shape[::-1])
    return g.op("Transpose", [x], tuple(x.shape[axis] for axis in order), perm=order)


def squeeze(g: Scope, given: Value | None = None) -> Value:
    """Add a Squeeze of some or all dims of size 1."""
    x = g.pick(lambda value: (1, 1) in value.shape, given)
    ones = [axis for axis, dim in enumerate(x.shape) if dim == (1, 1)]
    chosen = sorted({g.choose(ones), g.choose(ones)})
    if chosen == ones and g.chance(0.3) and all(1 not in dim for dim in x.shape if dim != (1, 1)):
        return g.op("Squeeze", [x], tuple(dim for dim in x.shape if dim != (1, 1)))
    shape = tuple(dim for axis, dim in enumerate(x.shape) if axis not in chosen)
    return with_axes(g, "Squeeze", x, shape, [signed(g, axis, x.rank) for axis in chosen])


def unsqueeze(g: Scope, given: Value | None = None) -> Value:
    """Add an Unsqueeze of one or two dims."""
    x = g.pick(anything, given)
    rank = x.rank + g.between(1, 2)
    axes = sorted(g.rng.permutation(rank)[: rank - x.rank].tolist())
    dims = iter(x.shape)
    shape = tuple((1, 1) if axis in axes else next(dims) for axis in range(rank))
    return with_axes(g, "Unsqueeze", x, shape, [signed(g, axis, rank) for axis in axes])


def with_axes(g: Scope, name: str, x: Value, shape: Shape, axes: list[int]) -> Value:
    """Add a Squeeze or Unsqueeze; opset 13 made its axes an input."""
    if g.opset < 13:
        return g.op(name, [x], shape, axes=axes)
    return g.op(name, [x, g.const(axes)], shape, dtype=x.dtype, exact=x.exact, bound=x.bound)


def flatten(g: Scope, given: Value | None = None) -> Value:
    """Add a Flatten at any axis."""
    x = g.pick(anything, given)
    axis = g.between(0, x.rank)
    shape = by_run(lambda run: [math.prod(x.sizes(run)[:axis]), math.prod(x.sizes(run)[axis:])])
    return g.op("Flatten", [x], shape, axis=axis - x.rank if axis < x.rank and g.opset >= 11 else axis)


def reshape(g: Scope, given: Value | None = None) -> Value:
    """Add a Reshape that joins or splits dims, or changes nothing; its target is written in some way."""
    x = g.pick(anything, given)
    dims = list(x.shape)
    if len(dims) > 1 and g.chance(0.5):
        axis = g.between(0, len(dims) - 2)
        joined = by_run(lambda run: [dims[axis][run] * dims[axis + 1][run]])
        dims[axis : axis + 2] = joined
    elif dims and g.chance(0.6):
        axis = g.between(0, len(dims) - 1)
        factor = g.choose((1, 2, 3))
        if any(size % factor for size in dims[axis]):
            raise Skip
        dims[axis : axis + 1] = [(factor, factor), (dims[axis][0] // factor, dims[axis][1] // factor)]
    return g.op(
        "Reshape", [x, _reshape_target(g, x, dims)], tuple(dims), dtype=x.dtype, exact=x.exact, bound=x.bound
    )


def _reshape_target(g: Scope, x: Value, dims: list[Dim]) -> Value:
    """Return the target as a constant with 0 and -1 where that is possible, else computed."""
    if g.chance(0.3):
        return shape_tensor(g, dims)
    target = [
        0 if axis < x.rank and x.shape[axis] == dim and (not static(dim) or g.chance(0.3)) else dim[0]
        for axis, dim in enumerate(dims)
    ]
    unknown = [axis for axis, dim in enumerate(dims) if not static(dim) and target[axis] != 0]
    if len(unknown) > 1:
        return shape_tensor(g, dims)
    for axis in unknown or ([g.between(0, len(dims) - 1)] if dims and g.chance(0.3) else []):
        target[axis] = -1
    return g.const(target)


def shape_tensor(g: Scope, dims: list[Dim]) -> Value:
    """Return the dims as an int64 vector: a constant, or joined from what Shape gives of other values."""
    if not dims:
        return g.const(np.zeros(0))
    if all(map(static, dims)) and g.chance(0.7):
        return g.const([dim[0] for dim in dims])
    parts = [_dim_tensor(g, dim) for dim in dims]
    return g.op("Concat", parts, ((len(dims),) * 2,), bound=99.0, exact=True, axis=0)


def _dim_tensor(g: Scope, dim: Dim) -> Value:
    if static(dim) and g.chance(0.5):
        return g.const([dim[0]])
    source = g.pick(lambda value: dim in value.shape)
    axis = source.shape.index(dim)
    shape = shape_of(g, source)
    if g.chance(0.4):
        return slice_to(g, shape, [(0, axis, axis + 1, 1)])
    index: Value = g.const(axis if g.chance(0.7) else axis - source.rank if g.opset >= 11 else axis)
    scalar = g.op("Gather", [shape, index], (), bound=99.0, exact=True, axis=0)
    if g.chance(0.2):
        scalar = g.op("Mul", [scalar, g.const(1)], (), bound=99.0)
    return with_axes(g, "Unsqueeze", scalar, ((1, 1),), [0])


def shape_of(g: Scope, x: Value) -> Value:
    """Add Shape."""
    if not x.rank:
        raise Skip
    return g.op("Shape", [x], ((x.rank, x.rank),), dtype=TensorProto.INT64, bound=99.0, exact=True)


def shape_value(g: Scope) -> Value:
    """Add Shape (with its ends since opset 15) or Size as a value of its own."""
    x = g.pick(anything)
    if g.chance(0.2):
        return g.op("Size", [x], (), dtype=TensorProto.INT64, bound=3000.0, exact=True)
    if g.opset >= 15 and x.rank and g.chance(0.4):
        start, end = g.between(-x.rank, x.rank - 1), g.between(1, x.rank)
        size = len(range(*slice(start, end).indices(x.rank)))
        attributes = {"start": start, "end": end}
        return g.op(
            "Shape", [x], ((size, size),), dtype=TensorProto.INT64, bound=99.0, exact=True, **attributes
        )
    return shape_of(g, x)


def expand(g: Scope, given: Value | None = None) -> Value:
    """Add an Expand to the shape of another value, to its own, or by new leading dims."""
    x = g.pick(lambda value: value.dtype != TensorProto.FLOAT16, given)
    other = g.pick(anything)
    target = list(g.choose((x.shape, other.shape, ((2, 2), *x.shape), ((1, 1),) * x.rank)))
    shape = by_run(lambda run: np.broadcast_shapes(x.sizes(run), tuple(dim[run] for dim in target)))
    return g.op("Expand", [x, shape_tensor(g, target)], shape, dtype=x.dtype, exact=x.exact, bound=x.bound)


def constant_of_shape(g: Scope) -> Value:
    """Add a ConstantOfShape of the shape of another value."""
    other = g.pick(anything)
    dtype = g.choose((TensorProto.FLOAT, TensorProto.INT64))
    fill = helper.make_tensor("value", dtype, [1], [g.choose((0, 1, 2))])
    target = shape_tensor(g, list(other.shape))
    return g.op("ConstantOfShape", [target], other.shape, dtype=dtype, bound=2.0, exact=True, value=fill)


def range_(g: Scope) -> Value:
    """Add a Range up to a dim of another value."""
    if g.opset < 11:
        raise Skip
    x = g.pick(lambda value: value.rank > 0)
    axis = g.between(0, x.rank - 1)
    end = g.op("Gather", [shape_of(g, x), g.const(axis)], (), bound=99.0, exact=True, axis=0)
    return g.op("Range", [g.const(0), end, g.const(1)], (x.shape[axis],), bound=99.0, exact=True)
