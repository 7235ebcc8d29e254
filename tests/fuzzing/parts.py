"""Random values that are taken apart, in one go or in steps, and put together again, some parts empty."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from tests.fuzzing.cutting import slice_to
from tests.fuzzing.elementwise import activation
from tests.fuzzing.scope import Scope, Shape, Skip, Value, is_float, signed, static

_FAR = (2**31 - 1, 2**63 - 1)


def splits(g: Scope) -> Value:
    """Add a Split, and Splits of some of its parts along the same axis or another."""
    x, axis = _divisible(g)
    parts = split_into(g, x, axis, _pieces(g, x.shape[axis][0]))
    leaves = []
    for part in parts:
        axes = [i for i, dim in enumerate(part.shape) if static(dim) and dim[0] > 1]
        again = axis if axis in axes and g.chance(0.8) else g.choose(axes) if axes else None
        if again is None or g.chance(0.4):
            leaves.append(part)
        else:
            leaves += split_into(g, part, again, _pieces(g, part.shape[again][0]))
    return _used(g, leaves, axis, x.rank)


def split_into(g: Scope, x: Value, axis: int, sizes: Sequence[int]) -> list[Value]:
    """Add a Split into parts of these sizes."""
    shapes = [(*x.shape[:axis], (size, size), *x.shape[axis + 1 :]) for size in sizes]
    inputs: list[Value | None] = [x]
    attributes: dict[str, object] = {"axis": signed(g, axis, x.rank)}
    uneven = _is_even_but_for_the_last(sizes)
    if g.opset >= 18 and uneven and g.chance(0.4):
        attributes["num_outputs"] = len(sizes)
    elif g.opset >= 13:
        inputs.append(g.const(sizes))
    else:
        attributes["split"] = list(sizes)
    options = {"dtype": x.dtype, "exact": x.exact, "bound": x.bound}
    return g.op_many("Split", inputs, shapes, **options, **attributes)  # type: ignore[arg-type]


def neighbours(g: Scope) -> Value:
    """Add Gathers and Slices that cover an axis, or nearly."""
    x, axis = _divisible(g)
    size, parts = x.shape[axis][0], []
    for edge, end in itertools.pairwise([0, *itertools.accumulate(_pieces(g, size))]):
        start = max(0, edge - 1) if g.chance(0.2) else edge
        if g.chance(0.6):
            parts.append(_taken(g, x, axis, list(range(start, end))))
        else:
            first = start if g.chance(0.6) or not start else start - size
            parts.append(slice_to(g, x, [(axis, first, end if end < size else g.choose((end, *_FAR)), 1)]))
    return _used(g, parts if g.chance(0.6) else parts[::-1], axis, x.rank)


def with_empty_parts(g: Scope) -> Value:
    """Add a Concat of parts of which some, or all, hold nothing."""
    if not g.world.empty:
        raise Skip
    x = g.pick(lambda value: value.rank > 0)
    axis = g.between(0, x.rank - 1)
    shape: Shape = (*x.shape[:axis], (0, 0), *x.shape[axis + 1 :])
    parts = []
    for _ in range(g.between(1, 3)):
        kind = g.between(0, 3)
        if kind == 0 and all(map(static, shape)):
            parts.append(g.const(np.zeros([dim[0] for dim in shape]), x.dtype))
        elif kind < 3:
            parts.append(slice_to(g, x, [(axis, g.choose((0, 2**31 - 1)), 0, 1)]))
        else:
            parts.append(x)
    joined = [sum(part.shape[axis][run] for part in parts) for run in (0, 1)]
    result = (*x.shape[:axis], (joined[0], joined[1]), *x.shape[axis + 1 :])
    return g.op("Concat", parts, result, dtype=x.dtype, axis=signed(g, axis, x.rank))


def wild_slices(g: Scope) -> Value:
    """Add one to three Slices with bounds in and out of range, from either end, and any step."""
    if g.opset < 10:
        raise Skip
    x = g.pick(lambda value: value.rank > 0)
    for _ in range(g.between(1, 3)):
        axes = sorted(set(g.rng.integers(0, x.rank, 2).tolist()))
        x = slice_to(g, x, [(axis, *_bounds(g, max(x.shape[axis]))) for axis in axes])
    return x


def _bounds(g: Scope, size: int) -> tuple[int, int, int]:
    """Return a start, an end and a step; counting down, onnxruntime takes the largest end for the first."""
    step, last = g.choose((1, 1, 1, 2, 3, -1, -2)), size + 2
    ends: tuple[int, ...] = (-(2**63), -(2**31)) if step < 0 else (-(2**31), *_FAR)
    starts = (0, size - 1, 2**31 - 1, -(2**31)) if step < 0 else (0, 1, -(2**31))
    start = g.choose((g.between(-last, last), *starts))
    return start, g.choose((g.between(-last, last), *ends)), step


def _divisible(g: Scope) -> tuple[Value, int]:
    """Choose a value and an axis of it that can be divided."""
    x = g.pick(lambda value: any(static(dim) and dim[0] > 1 for dim in value.shape))
    return x, g.choose([axis for axis, dim in enumerate(x.shape) if static(dim) and dim[0] > 1])


def _pieces(g: Scope, total: int) -> list[int]:
    """Return two or three sizes with this sum; now and then one is 0."""
    edges = sorted(g.between(0 if g.world.empty else 1, total - (0 if g.world.empty else 1)) for _ in "ab")
    pieces = [b - a for a, b in itertools.pairwise([0, *edges[: g.between(1, 2)], total])]
    return pieces if g.world.empty else [size for size in pieces if size]


def _is_even_but_for_the_last(sizes: Sequence[int]) -> bool:
    each = -(-sum(sizes) // len(sizes))
    return len(sizes) > 1 and all(size == each for size in sizes[:-1]) and 0 < sizes[-1] <= each


def _taken(g: Scope, x: Value, axis: int, indices: list[int]) -> Value:
    """Add a Gather of indices, often in their order."""
    size, count = x.shape[axis][0], len(indices)
    if not indices and not g.world.empty:
        raise Skip
    if g.chance(0.15):
        indices = indices[::-1]
    if g.opset >= 11:
        indices = [index - size if g.chance(0.2) else index for index in indices]
    dtype = g.choose((TensorProto.INT64, TensorProto.INT32))
    whole: Shape = ((count, count),)
    if count == 1 and g.chance(0.2):
        whole = ()
    given = g.const(np.array(indices).reshape([dim[0] for dim in whole]), dtype)
    shape = (*x.shape[:axis], *whole, *x.shape[axis + 1 :])
    along = signed(g, axis, x.rank) or None
    return g.op("Gather", [x, given], shape, dtype=x.dtype, exact=x.exact, bound=x.bound, axis=along)


def _used(g: Scope, parts: list[Value], axis: int, rank: int) -> Value:
    """Choose a part, or join them along the axis where that is possible."""
    if is_float(parts[0]) and g.chance(0.5):
        parts = [activation(g, "Neg", part) if g.chance(0.4) else part for part in parts]
    outer = {(*part.shape[:axis], None, *part.shape[axis + 1 :]) for part in parts}
    if len(outer) > 1 or any(part.rank < rank for part in parts) or g.chance(0.4):
        return g.choose(parts)
    joined = sum(part.shape[axis][0] for part in parts)
    shape = (*parts[0].shape[:axis], (joined, joined), *parts[0].shape[axis + 1 :])
    return g.op("Concat", parts, shape, axis=signed(g, axis, len(shape)))
