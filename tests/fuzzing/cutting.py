"""Random operators that take a part of a value, or put values together."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from tests.fuzzing.scope import FLOATS, INTS, Scope, Skip, Value, by_run, signed, static


def slice_(g: Scope, given: Value | None = None) -> Value:
    """Add a Slice of some axes: whole, to the end, from the end, backwards, with steps."""
    x = g.pick(lambda value: value.rank > 0, given)
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
            found[axis] = taken(found[axis], start, end, step)
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


def taken(size: int, start: int, end: int, step: int) -> int:
    """Return how much a Slice takes of an axis; a start before it that counts down is its first entry."""
    first, last = (0, size) if step > 0 else (-1, size - 1)
    start, end = (bound + size if bound < 0 else bound for bound in (start, end))
    start, end = min(max(start, 0), last), min(max(end, first), last)
    return max(0, -((start - end) // step))


def pad(g: Scope, given: Value | None = None, *, first: int = 0, fill: float | None = None) -> Value:
    """Add a Pad, often of nothing, of the axes from `first` on; opset 11 made its amounts inputs."""
    x = g.pick(lambda value: value.dtype in FLOATS and value.rank > 0, given)
    amounts = [g.choose((0, 0, 1)) if g.chance(0.6) else 0 for _ in range(2 * x.rank)]
    for axis in range(first):
        amounts[axis] = amounts[axis + x.rank] = 0
    mode = g.choose(("constant", "constant", "edge", "reflect")) if fill is None else "constant"
    if mode == "reflect" and any(size < 2 for dim in x.shape for size in dim):
        mode = "edge"
    rank = x.rank
    shape = by_run(lambda run: [size + amounts[i] + amounts[i + rank] for i, size in enumerate(x.sizes(run))])
    value = fill if fill is not None else g.choose((0.0, 0.0, 1.5)) if mode == "constant" else 0.0
    bound, attribute = x.bound + 1.5, mode if mode != "constant" or g.chance(0.5) else None
    if g.opset < 11:
        return g.op("Pad", [x], shape, bound=bound, pads=amounts, mode=attribute, value=value or None)
    inputs: list[Value | None] = [x, g.const(amounts)]
    if value or g.chance(0.4):
        inputs.append(g.const(np.array(value), x.dtype))
    return g.op("Pad", inputs, shape, dtype=x.dtype, exact=x.exact, bound=bound, mode=attribute)


def split(g: Scope, given: Value | None = None) -> Value:
    """Add a Split in two or three."""
    x = g.pick(lambda value: any(static(dim) and dim[0] > 1 for dim in value.shape), given)
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


def concat(g: Scope, given: Value | None = None) -> Value:
    """Add a Concat of one to three values, which may be the same."""
    x = g.pick(lambda value: value.rank > 0, given)
    axis = g.between(0, x.rank - 1)

    def fits(value: Value) -> bool:
        same = value.dtype == x.dtype and value.rank == x.rank
        return same and all(
            a == b for i, (a, b) in enumerate(zip(value.shape, x.shape, strict=True)) if i != axis
        )

    parts = [x, *(g.pick(fits) for _ in range(g.between(0, 2)))]
    joined = by_run(lambda run: [sum(part.shape[axis][run] for part in parts)])
    return g.op(
        "Concat", parts, (*x.shape[:axis], *joined, *x.shape[axis + 1 :]), axis=signed(g, axis, x.rank)
    )


def gather(g: Scope, given: Value | None = None) -> Value:
    """Add a Gather with constant indices: a scalar, a vector or a matrix."""
    x = g.pick(lambda value: value.rank > 0, given)
    axis = g.between(0, x.rank - 1)
    size = min(x.shape[axis])
    if not size:
        raise Skip
    form = g.choose(((), (1,), (2,), (2, 1)))
    low = -size if g.opset >= 11 else 0
    indices = g.const(g.rng.integers(low, size, form))
    shape = (*x.shape[:axis], *((n, n) for n in form), *x.shape[axis + 1 :])
    return g.op("Gather", [x, indices], shape, dtype=x.dtype, exact=x.exact, bound=x.bound, axis=axis)


def tile(g: Scope, given: Value | None = None) -> Value:
    """Add a Tile, often of nothing."""
    x = g.pick(
        lambda value: value.rank > 0 and value.dtype in FLOATS | INTS and value.dtype != TensorProto.FLOAT16,
        given,
    )
    repeats = [g.choose((1, 1, 2)) for _ in x.shape]
    shape = by_run(lambda run: [n * size for n, size in zip(repeats, x.sizes(run), strict=True)])
    return g.op("Tile", [x, g.const(repeats)], shape, dtype=x.dtype, exact=x.exact, bound=x.bound)
