"""Random operators that move data: shapes, slices, joins, and chains that compute a target shape."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto, helper

from tests.fuzzing.scope import (
    FLOATS,
    INTS,
    Dim,
    Scope,
    Shape,
    Skip,
    Value,
    anything,
    by_run,
    static,
)


def transpose(g: Scope) -> Value:
    """Add a Transpose, also the identity and the default order."""
    x = g.pick(anything)
    order = g.rng.permutation(x.rank).tolist() if g.chance(0.7) else list(range(x.rank))
    if not x.rank or g.chance(0.2):
        return g.op("Transpose", [x], x.shape[::-1])
    return g.op("Transpose", [x], tuple(x.shape[axis] for axis in order), perm=order)


def squeeze(g: Scope) -> Value:
    """Add a Squeeze of some or all dims of size 1."""
    x = g.pick(lambda value: (1, 1) in value.shape)
    ones = [axis for axis, dim in enumerate(x.shape) if dim == (1, 1)]
    chosen = sorted({g.choose(ones), g.choose(ones)})
    if chosen == ones and g.chance(0.3) and all(1 not in dim for dim in x.shape if dim != (1, 1)):
        return g.op("Squeeze", [x], tuple(dim for dim in x.shape if dim != (1, 1)))
    shape = tuple(dim for axis, dim in enumerate(x.shape) if axis not in chosen)
    return with_axes(g, "Squeeze", x, shape, [_signed(g, axis, x.rank) for axis in chosen])


def unsqueeze(g: Scope) -> Value:
    """Add an Unsqueeze of one or two dims."""
    x = g.pick(anything)
    rank = x.rank + g.between(1, 2)
    axes = sorted(g.rng.permutation(rank)[: rank - x.rank].tolist())
    dims = iter(x.shape)
    shape = tuple((1, 1) if axis in axes else next(dims) for axis in range(rank))
    return with_axes(g, "Unsqueeze", x, shape, [_signed(g, axis, rank) for axis in axes])


def with_axes(g: Scope, name: str, x: Value, shape: Shape, axes: list[int]) -> Value:
    """Add a Squeeze or Unsqueeze; opset 13 made its axes an input."""
    if g.opset < 13:
        return g.op(name, [x], shape, axes=axes)
    return g.op(name, [x, g.const(axes)], shape, dtype=x.dtype, exact=x.exact, bound=x.bound)


def _signed(g: Scope, axis: int, rank: int) -> int:
    return axis - rank if g.opset >= 11 and g.chance(0.3) else axis


def flatten(g: Scope) -> Value:
    """Add a Flatten at any axis."""
    x = g.pick(anything)
    axis = g.between(0, x.rank)
    shape = by_run(lambda run: [math.prod(x.sizes(run)[:axis]), math.prod(x.sizes(run)[axis:])])
    return g.op("Flatten", [x], shape, axis=axis - x.rank if axis < x.rank and g.opset >= 11 else axis)


def reshape(g: Scope) -> Value:
    """Add a Reshape that joins or splits dims, or changes nothing; its target is written in some way."""
    x = g.pick(anything)
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


def slice_(g: Scope) -> Value:
    """Add a Slice of some axes: whole, to the end, from the end, backwards, with steps."""
    x = g.pick(lambda value: value.rank > 0)
    cuts = []
    for axis in sorted(set(g.rng.integers(0, x.rank, 2).tolist())):
        start, end, step = g.choose(
            (
                (0, 2**31 - 1, 1),
                (0, 2**31 - 1, 1),
                (0, 1, 1),
                (1, 2**31 - 1, 1),
                (0, -1, 1),
                (-1, 2**31 - 1, 1),
            )
            + (((0, 2**31 - 1, 2), (-1, -(2**31), -1)) if g.opset >= 10 else ())
        )
        if (start, end) == (0, 2**31 - 1) and static(x.shape[axis]) and g.chance(0.5):
            end = x.shape[axis][0]
        cuts.append((axis, start, end, step))
    return slice_to(g, x, cuts)


def slice_to(g: Scope, x: Value, cuts: list[tuple[int, int, int, int]]) -> Value:
    """Add a Slice, given (axis, start, end, step) for each axis that it cuts."""

    def sizes(run: int) -> list[int]:
        found = list(x.sizes(run))
        for axis, start, end, step in cuts:
            found[axis] = len(range(*slice(start, end, step).indices(found[axis])))
        return found

    shape = by_run(sizes)
    axes, starts, ends, steps = (list(column) for column in zip(*cuts, strict=True))
    if g.opset < 10:
        return g.op("Slice", [x], shape, starts=starts, ends=ends, axes=axes)
    inputs = [x, g.const(starts), g.const(ends)]
    with_steps = any(step != 1 for step in steps) or g.chance(0.3)
    if axes != list(range(len(axes))) or with_steps or g.chance(0.7):
        inputs.append(g.const(axes))
    if with_steps:
        inputs.append(g.const(steps))
    return g.op("Slice", inputs, shape, dtype=x.dtype, exact=x.exact, bound=x.bound)


def pad(g: Scope) -> Value:
    """Add a Pad, often of nothing; opset 11 made its amounts inputs, opset 18 added axes."""
    x = g.pick(lambda value: value.dtype in FLOATS and value.rank > 0)
    amounts = [g.choose((0, 0, 1)) if g.chance(0.6) else 0 for _ in range(2 * x.rank)]
    mode = g.choose(("constant", "constant", "edge", "reflect"))
    if mode == "reflect" and any(size < 2 for dim in x.shape for size in dim):
        mode = "edge"
    rank = x.rank
    shape = by_run(lambda run: [size + amounts[i] + amounts[i + rank] for i, size in enumerate(x.sizes(run))])
    value = g.choose((0.0, 0.0, 1.5)) if mode == "constant" else 0.0
    bound, attribute = x.bound + 1.5, mode if mode != "constant" or g.chance(0.5) else None
    if g.opset < 11:
        return g.op("Pad", [x], shape, bound=bound, pads=amounts, mode=attribute, value=value or None)
    inputs: list[Value | None] = [x, g.const(amounts)]
    if value or g.chance(0.4):
        inputs.append(g.const(np.array(value), x.dtype))
    return g.op("Pad", inputs, shape, dtype=x.dtype, exact=x.exact, bound=bound, mode=attribute)


def split(g: Scope) -> Value:
    """Add a Split in two or three."""
    x = g.pick(lambda value: any(static(dim) and dim[0] > 1 for dim in value.shape))
    axis = g.choose([axis for axis, dim in enumerate(x.shape) if static(dim) and dim[0] > 1])
    total = x.shape[axis][0]
    first = g.between(1, total - 1)
    sizes = [first, total - first]
    even = total % 2 == 0 and g.chance(0.4)
    if even:
        sizes = [total // 2] * 2
    shapes = [(*x.shape[:axis], (size, size), *x.shape[axis + 1 :]) for size in sizes]
    kept = {"axis": axis if g.chance(0.6) or g.opset < 11 else axis - x.rank}
    inputs, attributes = [x], dict[str, object]()
    if not even and g.opset < 13:
        attributes["split"] = sizes
    elif not even:
        inputs.append(g.const(sizes))
    elif g.opset >= 18:
        attributes["num_outputs"] = 2
    options = {"dtype": x.dtype, "exact": x.exact, "bound": x.bound}
    parts = g.op_many("Split", inputs, shapes, **options, **kept, **attributes)  # type: ignore[arg-type]
    if g.chance(0.4):
        return g.op("Concat", parts if g.chance(0.6) else parts[::-1], x.shape, axis=axis)
    return g.choose(parts)


def concat(g: Scope) -> Value:
    """Add a Concat of one to three values, which may be the same."""
    x = g.pick(lambda value: value.rank > 0)
    axis = g.between(0, x.rank - 1)

    def fits(value: Value) -> bool:
        same = value.dtype == x.dtype and value.rank == x.rank
        return same and all(
            a == b for i, (a, b) in enumerate(zip(value.shape, x.shape, strict=True)) if i != axis
        )

    parts = [x, *(g.pick(fits) for _ in range(g.between(0, 2)))]
    joined = by_run(lambda run: [sum(part.shape[axis][run] for part in parts)])
    return g.op(
        "Concat", parts, (*x.shape[:axis], *joined, *x.shape[axis + 1 :]), axis=_signed(g, axis, x.rank)
    )


def expand(g: Scope) -> Value:
    """Add an Expand to the shape of another value, to its own, or by new leading dims."""
    x = g.pick(lambda value: value.dtype != TensorProto.FLOAT16)
    other = g.pick(anything)
    target = list(g.choose((x.shape, other.shape, ((2, 2), *x.shape), ((1, 1),) * x.rank)))
    shape = by_run(lambda run: np.broadcast_shapes(x.sizes(run), tuple(dim[run] for dim in target)))
    return g.op("Expand", [x, shape_tensor(g, target)], shape, dtype=x.dtype, exact=x.exact, bound=x.bound)


def gather(g: Scope) -> Value:
    """Add a Gather with constant indices: a scalar, a vector or a matrix."""
    x = g.pick(lambda value: value.rank > 0)
    axis = g.between(0, x.rank - 1)
    size = min(x.shape[axis])
    if not size:
        raise Skip
    form = g.choose(((), (1,), (2,), (2, 1)))
    low = -size if g.opset >= 11 else 0
    indices = g.const(g.rng.integers(low, size, form))
    shape = (*x.shape[:axis], *((n, n) for n in form), *x.shape[axis + 1 :])
    return g.op("Gather", [x, indices], shape, dtype=x.dtype, exact=x.exact, bound=x.bound, axis=axis)


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


def tile(g: Scope) -> Value:
    """Add a Tile, often of nothing."""
    x = g.pick(
        lambda value: value.rank > 0 and value.dtype in FLOATS | INTS and value.dtype != TensorProto.FLOAT16
    )
    repeats = [g.choose((1, 1, 2)) for _ in x.shape]
    shape = by_run(lambda run: [n * size for n, size in zip(repeats, x.sizes(run), strict=True)])
    return g.op("Tile", [x, g.const(repeats)], shape, dtype=x.dtype, exact=x.exact, bound=x.bound)
