"""Random GatherNDs at given or counted positions, and heads that are split off with computed targets."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from tests.fuzzing.elementwise import activation
from tests.fuzzing.layout import shape_of, shape_tensor, with_axes
from tests.fuzzing.sandwich import turn
from tests.fuzzing.scope import Dim, Scope, Shape, Skip, Value, by_run, is_float, signed, static


def gather_nd(g: Scope) -> Value:
    """Add a GatherND whose coordinates are one number each, or several; of either sign."""
    if g.opset < 11:
        raise Skip
    x = g.pick(lambda value: value.rank > 0 and min(min(dim) for dim in value.shape) > 0)
    form = g.choose(((), (1,), (3,), (2, 2)))
    depth = 1 if g.chance(0.7) else g.between(1, x.rank)
    columns = [
        g.rng.integers(-min(x.shape[axis]), min(x.shape[axis]), (*form, 1))
        if g.chance(0.7)
        else g.rng.integers(0, min(x.shape[axis]), (*form, 1))
        for axis in range(depth)
    ]
    shape = (*((n, n) for n in form), *x.shape[depth:])
    if depth > 1 or g.chance(0.5):
        coordinates = g.const(np.concatenate(columns, axis=-1))
    else:
        inner = g.const(columns[0][..., 0])
        if g.chance(0.3):
            inner = g.op("Abs", [inner], inner.shape, bound=inner.bound)
            if max(map(abs, columns[0].reshape(-1).tolist())) >= min(x.shape[0]):
                raise Skip
        axis = len(form) if g.chance(0.8) else g.between(0, len(form))
        new: Shape = (*inner.shape[:axis], (1, 1), *inner.shape[axis:])
        coordinates = with_axes(g, "Unsqueeze", inner, new, [signed(g, axis, len(new))])
        size = new[-1][0]
        if size > x.rank or any(
            abs(each) >= min(x.shape[at]) for at in range(size) for each in columns[0].reshape(-1).tolist()
        ):
            raise Skip
        shape = (*new[:-1], *x.shape[size:])
    return g.op("GatherND", [x, coordinates], shape, dtype=x.dtype, exact=x.exact, bound=x.bound)


def at_own_positions(g: Scope) -> Value:
    """Add a GatherND at positions that count along the axes of a value, in their order or another."""
    if g.opset < 13:
        raise Skip
    x = g.pick(lambda value: 0 < value.rank < 4)
    rank = x.rank + g.between(0, 2)
    places = sorted(g.rng.permutation(rank)[: x.rank].tolist())
    if g.chance(0.2):
        places = places[::-1]
    target: list[Dim] = [(1, 1)] * rank
    for axis, place in enumerate(places):
        target[place] = x.shape[axis]
    if g.chance(0.15):
        target = [
            (2, 2) if dim == (1, 1) and place not in places else dim for place, dim in enumerate(target)
        ]
    columns = [_column(g, x, axis, place, target) for axis, place in enumerate(places)]
    shape: Shape = (*target, (x.rank, x.rank))
    joined = g.op("Concat", columns, shape, bound=99.0, axis=signed(g, rank, rank + 1))
    return g.op("GatherND", [x, joined], tuple(target), dtype=x.dtype, exact=x.exact, bound=x.bound)


def _column(g: Scope, x: Value, axis: int, place: int, target: list[Dim]) -> Value:
    """Add what counts along one axis of `target`, up to the size of the axis of `x`, as a column."""
    count = x.shape[axis]
    end = g.op("Gather", [shape_of(g, x), g.const(axis)], (), bound=99.0, exact=True, axis=0)
    numbers = g.op("Range", [g.const(0), end, g.const(1)], (count,), bound=99.0, exact=True)
    if static(count) and g.chance(0.2):
        numbers = g.const(np.arange(count[0]))
    if g.chance(0.1):
        last = g.op("Sub", [end, g.const(1)], (), bound=99.0)
        numbers = g.op("Sub", [last, numbers], (count,), bound=99.0)
    spread: list[Dim] = [(1, 1)] * len(target)
    spread[place] = count
    others = [at for at in range(len(target)) if at != place]
    if others:
        numbers = with_axes(g, "Unsqueeze", numbers, tuple(spread), others)
    if g.chance(0.2):
        numbers = g.op("Abs", [numbers], tuple(spread), bound=99.0)
    wide = g.op("Expand", [numbers, shape_tensor(g, target)], tuple(target), bound=99.0, exact=True)
    return with_axes(g, "Unsqueeze", wide, (*target, (1, 1)), [signed(g, len(target), len(target) + 1)])


def heads(g: Scope) -> Value:
    """Split the last axis into heads with a computed target, turn them to the front, and often go back."""
    x = g.pick(lambda value: is_float(value) and value.rank == 3 and static(value.shape[2]))
    batch, length, width = x.shape
    count = g.choose([n for n in (1, 2, 3, 4) if width[0] % n == 0])
    size = width[0] // count
    y = _reshaped(g, x, x, (batch, length, (count, count), (size, size)), g.choose((None, 1, 2)))
    order = g.choose(([0, 2, 1, 3], [2, 0, 1, 3], [1, 0, 2, 3]))
    y = turn(g, y, order)
    if order == [0, 2, 1, 3] and g.chance(0.5):
        rows = by_run(lambda run: [batch[run] * count])[0]
        y = _reshaped(g, y, x, (rows, length, (size, size)), g.choose((None, 0)))
        y = activation(g, g.choose(("Relu", "Tanh", "Softmax")), y)
        y = _reshaped(g, y, x, (batch, (count, count), length, (size, size)), g.choose((None, 0)))
    else:
        y = activation(g, g.choose(("Relu", "Tanh", "Softmax")), y)
    if g.chance(0.2):
        return y
    y = turn(g, y, [order.index(axis) for axis in range(4)])
    return _reshaped(g, y, x, x.shape, g.choose((None, 2)))


def _reshaped(g: Scope, x: Value, source: Value, dims: Shape, open_axis: int | None) -> Value:
    """Add a Reshape to these dims, of which one may be -1; those that vary are computed from `source`."""
    parts = []
    for axis, dim in enumerate(dims):
        if axis == open_axis and all(min(each) > 0 for each in x.shape):
            parts.append(g.const([-1]))
        elif static(dim):
            parts.append(g.const([dim[0]]))
        else:
            parts.append(_computed(g, source, dim))
    target = g.op("Concat", parts, ((len(dims),) * 2,), bound=999.0, exact=True, axis=0)
    return g.op("Reshape", [x, target], dims, dtype=x.dtype, exact=x.exact, bound=x.bound)


def _computed(g: Scope, source: Value, dim: Dim) -> Value:
    """Add a list of one dim of `source`, or of a multiple of one."""
    for axis, own in enumerate(source.shape):
        for factor in (1, 2, 3, 4):
            if dim == (own[0] * factor, own[1] * factor):
                index = g.const([axis])
                y = g.op("Gather", [shape_of(g, source), index], ((1, 1),), bound=99.0, exact=True, axis=0)
                if factor == 1:
                    return y
                return g.op("Mul", [y, g.const(g.choose((np.array(factor), np.array([factor]))))], ((1, 1),))
    raise Skip


def zeros_from_afar(g: Scope) -> Value:
    """Add a term that is zero because of what it is made of, a few operators away."""
    x = g.pick(lambda value: value.rank > 0 and value.dtype in (TensorProto.FLOAT, TensorProto.INT64))
    filler = g.const(np.array(g.choose((0, 0, 0, 1))), x.dtype)
    term = g.op("Expand", [filler, shape_tensor(g, list(x.shape))], x.shape)
    order = list(range(x.rank))[::-1]
    for _ in range(g.between(1, 3)):
        kind = g.between(0, 4)
        if kind == 0:
            term = g.op("Neg", [term], term.shape)
        elif kind == 1:
            term = g.op(g.choose(("Mul", "Sub", "Add")), [term, term], term.shape, bound=2 * term.bound)
        elif kind == 2:
            term = turn(g, activation(g, "Relu", turn(g, term, order)), order) if is_float(term) else term
        elif kind == 3:
            to = g.choose((TensorProto.INT64, TensorProto.FLOAT, TensorProto.BOOL))
            there = g.op("Cast", [term], term.shape, dtype=to, to=to)
            term = g.op("Cast", [there], term.shape, dtype=x.dtype, to=x.dtype)
        elif min(min(term.shape)) > 0:
            index = g.const([0])
            axis = g.between(0, x.rank - 1)
            shape = (*term.shape[:axis], (1, 1), *term.shape[axis + 1 :])
            term = g.op("Gather", [term, index], shape, dtype=x.dtype, axis=axis)
    return g.op("Add", [x, term] if g.chance(0.5) else [term, x], x.shape, bound=x.bound + 1)
