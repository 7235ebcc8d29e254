"""What stands at each index of a tensor of integers or bools, where that is an affine function of the index.

Positions, masks and index tensors are: Range(0, n, 1) holds i, and ConstantOfShape, a comparison of positions
that always has the same outcome, and whatever is gathered from these hold one number. A bool is 0 or 1.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.expr import (
    Number,
    add,
    assuming_filled,
    at_least,
    multiply,
    product,
    smaller_of,
    subtract,
    surely_equal,
)
from fuseonnx.analysis.site import Dims
from fuseonnx.analysis.symbolic import dims_of, elements_of, integers_of
from fuseonnx.core.constants import constant_tensor, data_of, is_const

_DEPTH = 48
_MAX_CONSTANT = 1 << 14
_BOOL = ir.DataType.BOOL
_TYPES = frozenset({ir.DataType.INT64, _BOOL})
_LIMIT = 1 << 31
"""Larger constants might wrap around once multiplied."""


class Affine(NamedTuple):
    """`start` + the sum over the axes of `slopes[axis]` * index[axis].

    An axis of size 1 has slope 0. Of an empty tensor this says nothing.
    """

    start: Number
    slopes: Dims

    @property
    def is_uniform(self) -> bool:
        """Whether the same number stands everywhere."""
        return not any(self.slopes)

    def is_at_least(self, bound: int) -> bool:
        """Whether no number in it is below a bound."""
        return at_least(self.start, bound) and all(at_least(slope, 0) for slope in self.slopes)


class Contents:
    """Reads contents; what it has found out it remembers, so use it while the graph stays as it is."""

    def __init__(self) -> None:
        self._known: dict[ir.Value, Affine | None] = {}
        self._depth = 0

    def of(self, value: ir.Value | None) -> Affine | None:
        """Return what stands in a value, None if that is not known to be affine in the index."""
        if value is None or value.dtype not in _TYPES or self._depth > _DEPTH:
            return None
        if value not in self._known:
            self._depth += 1
            self._known[value] = self._read(value)
            self._depth -= 1
        return self._known[value]

    def _read(self, value: ir.Value) -> Affine | None:
        dims, elements, node = dims_of(value), elements_of(value), value.producer()
        if dims is None:
            return None
        made: Affine | None = None
        if is_const(value):
            made = _constant(value)
        elif elements is not None:
            made = _progression(elements, len(dims))
        if made is None and node is not None and not node.domain and value is node.outputs[0]:
            rule = _RULES.get(node.op_type)
            with contextlib.suppress(LookupError, ValueError, ArithmeticError):  # the node is wrong in itself
                made = rule(self, node, dims) if rule is not None else None
        if made is None or len(made.slopes) != len(dims) or _is_large(made):
            return None
        slopes = (0 if is_one(dim) else slope for slope, dim in zip(made.slopes, dims, strict=True))
        return Affine(made.start, tuple(slopes))


def _is_large(content: Affine) -> bool:
    return any(isinstance(each, int) and abs(each) > _LIMIT for each in (content.start, *content.slopes))


def is_one(dim: Number) -> bool:
    """Whether an axis has size 1 unless it is empty."""
    return dim == 1 or 1 in (smaller_of(dim) or ())


def _uniform(number: Number, dims: Dims) -> Affine:
    return Affine(number, (0,) * len(dims))


def _constant(value: ir.Value) -> Affine | None:
    tensor = constant_tensor(value)
    if not 0 < tensor.size <= _MAX_CONSTANT:
        return None
    array = data_of(tensor).astype(np.int64)
    start = array[(0,) * array.ndim]
    predicted, slopes = np.array(start), []
    for axis, size in enumerate(array.shape):
        one = tuple(int(other == axis) for other in range(array.ndim))
        slopes.append(int(array[one] - start) if size > 1 else 0)
        steps = np.arange(size).reshape([size if other == axis else 1 for other in range(array.ndim)])
        predicted = predicted + slopes[-1] * steps
    return Affine(int(start), tuple(slopes)) if np.array_equal(predicted, array) else None


def _progression(elements: Dims, rank: int) -> Affine | None:
    if not elements:
        return None
    steps = {subtract(b, a) for a, b in pairwise(elements)}
    return Affine(elements[0], (steps.pop() if steps else 0,) * rank) if len(steps) <= 1 else None


def _filled(_contents: Contents, node: ir.Node, dims: Dims) -> Affine | None:
    value = node.attributes.get("value")
    return _uniform(0 if value is None else int(value.as_tensor().numpy().item()), dims)


def _range(_contents: Contents, node: ir.Node, _dims: Dims) -> Affine | None:
    start, step = elements_of(node.inputs[0]), elements_of(node.inputs[2])
    return None if start is None or step is None else Affine(start[0], (step[0],))


def _same(contents: Contents, node: ir.Node, _dims: Dims) -> Affine | None:
    return contents.of(node.inputs[0])


def _cast(contents: Contents, node: ir.Node, _dims: Dims) -> Affine | None:
    x, target = contents.of(node.inputs[0]), node.attributes["to"].value
    if x is None or target != _BOOL:
        return x
    equal = surely_equal(x.start, 0) if x.is_uniform else None
    return None if equal is None else Affine(int(not equal), x.slopes)


def _rearranged(contents: Contents, node: ir.Node, dims: Dims) -> Affine | None:
    """Unsqueeze, Squeeze and Reshape, where they only add and remove axes of size 1."""
    x, before = contents.of(node.inputs[0]), dims_of(node.inputs[0])
    if x is None or before is None or x.is_uniform:
        return None if x is None else _uniform(x.start, dims)
    slopes = [slope for slope, dim in zip(x.slopes, before, strict=True) if dim != 1]
    if [dim for dim in before if dim != 1] != [dim for dim in dims if dim != 1]:
        return None
    rest = iter(slopes)
    return Affine(x.start, tuple(0 if dim == 1 else next(rest) for dim in dims))


def _transpose(contents: Contents, node: ir.Node, dims: Dims) -> Affine | None:
    x = contents.of(node.inputs[0])
    perm = node.attributes.get_ints("perm") or range(len(dims))[::-1]
    return None if x is None else Affine(x.start, tuple(x.slopes[axis] for axis in perm))


def _expand(contents: Contents, node: ir.Node, dims: Dims) -> Affine | None:
    return _spread(contents.of(node.inputs[0]), dims_of(node.inputs[0]), dims)


def _spread(x: Affine | None, before: Dims | None, dims: Dims) -> Affine | None:
    """Return a content broadcast to `dims`, None if an axis with a slope might have size 1 and grow."""
    if x is None or before is None:
        return None
    new = (0,) * (len(dims) - len(before))
    pairs = zip(x.slopes, before, dims[len(new) :], strict=True)
    grows = any(slope != 0 and dim != size for slope, dim, size in pairs)
    return None if grows else Affine(x.start, new + x.slopes)


def _slice(contents: Contents, node: ir.Node, _dims: Dims) -> Affine | None:
    x, before, starts = contents.of(node.inputs[0]), dims_of(node.inputs[0]), elements_of(node.inputs[1])
    given = [integers_of(value) for value in node.inputs[3:] if value is not None]
    if x is None or before is None or starts is None or None in given or None in node.inputs:
        return _uniform(x.start, before) if x is not None and before is not None and x.is_uniform else None
    axes = given[0] if given else list(range(len(starts)))
    steps = given[1] if len(given) > 1 else [1] * len(starts)
    offset, slopes = x.start, list(x.slopes)
    for axis, start, step in zip(axes or (), starts, steps or (), strict=True):
        first = start if at_least(start, 0) else add(before[axis], start)
        if slopes[axis] != 0 and (step < 1 or not at_least(first, 0)):
            return None
        offset = add(offset, multiply(slopes[axis], first))
        slopes[axis] = multiply(slopes[axis], step)
    return Affine(offset, tuple(slopes))


def _concat(contents: Contents, node: ir.Node, dims: Dims) -> Affine | None:
    """Pieces of which each goes on where the one before it ended; a piece of one entry has any slope."""
    axis = node.attributes["axis"].as_int() % len(dims)
    pieces = [contents.of(value) for value in node.inputs]
    sizes = [(dims_of(value) or ())[axis] for value in node.inputs]
    first = pieces[0]
    if first is None or None in pieces:
        return None
    slope = next(
        (each.slopes[axis] for each, size in zip(pieces, sizes, strict=True) if each and not is_one(size)),
        None,
    )
    if slope is None:
        slope = subtract(pieces[1].start, first.start) if len(pieces) > 1 and pieces[1] else 0
    made = Affine(first.start, (*first.slopes[:axis], slope, *first.slopes[axis + 1 :]))
    reached: Number = 0
    for each, size in zip(pieces, sizes, strict=True):
        expected = add(made.start, multiply(slope, assuming_filled(reached, dims[axis])))
        own = each and (
            *each.slopes[:axis],
            slope if is_one(size) else each.slopes[axis],
            *each.slopes[axis + 1 :],
        )
        if each is None or each.start != expected or own != made.slopes:
            return None
        reached = add(reached, size)
    return made


def _gather(contents: Contents, node: ir.Node, dims: Dims) -> Affine | None:
    data, indices, axis = (
        contents.of(node.inputs[0]),
        contents.of(node.inputs[1]),
        node.attributes.get_int("axis", 0),
    )
    if data is None:
        return None
    if data.is_uniform:
        return _uniform(data.start, dims)
    axis %= len(data.slopes)
    slope, inner = data.slopes[axis], dims_of(node.inputs[1])
    if inner is None or indices is None or not indices.is_at_least(0):  # below 0 it counts from the end
        return None
    own = tuple(multiply(slope, each) for each in indices.slopes)
    start = add(data.start, multiply(slope, indices.start))
    return Affine(start, data.slopes[:axis] + own + data.slopes[axis + 1 :])


def _gather_nd(contents: Contents, node: ir.Node, dims: Dims) -> Affine | None:
    """Of indices that a Concat puts side by side, one for each axis of the data."""
    data, indices = contents.of(node.inputs[0]), node.inputs[1]
    batch = node.attributes.get_int("batch_dims", 0)
    if data is None or data.is_uniform or indices is None or batch:
        return _uniform(data.start, dims) if data is not None and data.is_uniform else None
    concat = indices.producer()
    if (
        concat is None
        or concat.op_type != "Concat"
        or concat.domain
        or len(concat.inputs) != len(data.slopes)
    ):
        return None
    start, slopes = data.start, (0,) * len(dims)
    made = Affine(start, slopes)
    for slope, column in zip(data.slopes, concat.inputs, strict=True):
        index, shape = contents.of(column), dims_of(column)
        if shape is None or shape[-1] != 1 or len(shape) != len(dims) + 1:
            return None
        if slope == 0:
            continue
        if index is None or not index.is_at_least(0):
            return None
        made = _sum(
            made,
            Affine(multiply(slope, index.start), tuple(multiply(slope, each) for each in index.slopes[:-1])),
        )
    return made


def _gathered_uniform(contents: Contents, node: ir.Node, dims: Dims) -> Affine | None:
    data = contents.of(node.inputs[0])
    return _uniform(data.start, dims) if data is not None and data.is_uniform else None


def _running_sum(contents: Contents, node: ir.Node, dims: Dims) -> Affine | None:
    x = contents.of(node.inputs[0])
    return _uniform(0, dims) if x is not None and x.is_uniform and x.start == 0 else None


def _sum(a: Affine, b: Affine) -> Affine:
    return Affine(add(a.start, b.start), tuple(map(add, a.slopes, b.slopes)))


def _scaled(a: Affine, factor: Number) -> Affine:
    return Affine(multiply(a.start, factor), tuple(multiply(slope, factor) for slope in a.slopes))


def _times(a: Affine, b: Affine) -> Affine | None:
    return _scaled(a, b.start) if b.is_uniform else _scaled(b, a.start) if a.is_uniform else None


def _flag(outcome: bool | None, like: Affine) -> Affine | None:
    return None if outcome is None else Affine(int(outcome), (0,) * len(like.slopes))


def _equal(a: Affine, b: Affine) -> Affine | None:
    difference = _sum(a, _scaled(b, -1))
    if difference.is_uniform:
        return _flag(surely_equal(difference.start, 0), a)
    apart = difference.is_at_least(1) or _scaled(difference, -1).is_at_least(1)
    return _flag(False, a) if apart else None


def _at_most(a: Affine, b: Affine, margin: int = 0) -> Affine | None:
    """Whether a + margin <= b, everywhere or nowhere."""
    difference = _sum(b, _scaled(a, -1))
    if difference.is_at_least(margin):
        return _flag(True, a)
    return _flag(False, a) if _scaled(difference, -1).is_at_least(1 - margin) else None


def _and(a: Affine, b: Affine) -> Affine | None:
    return a if b.is_uniform and b.start == 1 else b if a.is_uniform and a.start == 1 else None


def _or(a: Affine, b: Affine) -> Affine | None:
    return a if b.is_uniform and b.start == 0 else b if a.is_uniform and a.start == 0 else None


def _not(contents: Contents, node: ir.Node, _dims: Dims) -> Affine | None:
    x = contents.of(node.inputs[0])
    return Affine(subtract(1, x.start), x.slopes) if x is not None and x.is_uniform else None


Rule = Callable[[Contents, ir.Node, Dims], Affine | None]


def _pairwise(function: Callable[[Affine, Affine], Affine | None]) -> Rule:
    def rule(contents: Contents, node: ir.Node, dims: Dims) -> Affine | None:
        a, b = (_spread(contents.of(value), dims_of(value), dims) for value in node.inputs)
        return None if a is None or b is None else function(a, b)

    return rule


_RULES: dict[str, Rule] = {
    "Add": _pairwise(_sum),
    "And": _pairwise(_and),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _filled,
    "CumSum": _running_sum,
    "Equal": _pairwise(_equal),
    "Expand": _expand,
    "Gather": _gather,
    "GatherElements": _gathered_uniform,
    "GatherND": _gather_nd,
    "Greater": _pairwise(lambda a, b: _at_most(b, a, 1)),
    "GreaterOrEqual": _pairwise(lambda a, b: _at_most(b, a)),
    "Identity": _same,
    "Less": _pairwise(lambda a, b: _at_most(a, b, 1)),
    "LessOrEqual": _pairwise(_at_most),
    "Mul": _pairwise(_times),
    "Not": _not,
    "Or": _pairwise(_or),
    "Range": _range,
    "Reshape": _rearranged,
    "Slice": _slice,
    "Squeeze": _rearranged,
    "Sub": _pairwise(lambda a, b: _sum(a, _scaled(b, -1))),
    "Transpose": _transpose,
    "Unsqueeze": _rearranged,
}


def row_major(dims: Sequence[Number]) -> Affine:
    """Return the content that counts the entries of a tensor of these dims, from 0 on."""
    slopes = (0 if is_one(dim) else product(dims[axis + 1 :]) for axis, dim in enumerate(dims))
    return Affine(0, tuple(slopes))
