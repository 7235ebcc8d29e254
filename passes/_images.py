"""Shared by compute_on_images: which values of a graph hold an image, only with its axes in another order.

A value is a view of a source if it holds the elements of Transpose(source, perm) in their order, whatever its
own shape is. The rows [n·h·w, c] that Gemm takes are the view (0, 2, 3, 1) of an image [n, c, h, w].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.shapes import static_shape
from fuseonnx.analysis.symbolic import dims_of, integers_of
from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import array_of, is_const
from fuseonnx.passes._chains import int64s
from fuseonnx.passes._change import input_of
from fuseonnx.passes._dims import known_dims
from fuseonnx.passes._flip import Perm, compose, is_identity
from fuseonnx.passes._reshaped import new_target

ROWS: Perm = (0, 2, 3, 1)
_POSITIONS_FIRST: Perm = (0, 3, 1, 2)
_HEADS_BEHIND_POSITIONS: Perm = (0, 2, 1, 3)
_SIZES_BEFORE_POSITIONS: Perm = (0, 1, 3, 2)
_SPLIT_TAKES_SIZES = 13
_BLOCK = 4
"""onnxruntime's blocked convolutions take channels by four."""
_ACTIVATIONS = frozenset({"Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu", "Sigmoid", "Tanh"})
"""Those that onnxruntime computes as a part of a convolution, or on its blocks of channels."""


@dataclass(eq=False)
class Source:
    """A value of rank 4 that is at hand, or that `compute` makes.

    Attributes:
        batch: its first dim.
        dims: the others.
        compute: makes it.
        convolved: whether a convolution made it, or what it is computed of.
    """

    batch: int | ir.SymbolicDim
    dims: tuple[int, int, int]
    compute: Callable[[Builder], ir.Value]
    convolved: bool = False
    _turned: dict[Perm, ir.Value] = field(default_factory=dict)

    def value(self, new: Builder, perm: Perm = (0, 1, 2, 3)) -> ir.Value:
        """Return it with its axes in this order; each is computed once."""
        if perm not in self._turned:
            if is_identity(perm):
                made = self.compute(new)
            else:
                made = new.op("Transpose", self.value(new), attributes={"perm": perm})
            shape = (self.batch, *self.dims)
            made.type = ir.TensorType(ir.DataType.FLOAT)
            made.shape = ir.Shape([shape[axis] for axis in perm])
            self._turned[perm] = made
        return self._turned[perm]

    def reshaped(self, dims: tuple[int, int, int]) -> Source:
        """Return the same elements with other dims after the batch."""
        return Source(
            self.batch,
            dims,
            lambda new: new.op("Reshape", self.value(new), int64s(new, [0, *dims])),
            self.convolved,
        )


class View(NamedTuple):
    """The elements of a source in another order of its axes."""

    source: Source
    perm: Perm

    def back(self, value: ir.Value, new: Builder) -> ir.Value:
        """Return the value itself, from the source."""
        turned, dims = self.source.value(new, self.perm), known_dims(value)
        assert dims is not None
        if list(turned.shape or ())[1:] == dims[1:]:
            return turned
        target = new_target(dims)
        assert target is not None
        result = new.op("Reshape", turned, new.const(target))
        result.type, result.shape = value.type, value.shape
        return result


class Views:
    """Finds the views of one graph, from its first node to its last."""

    def __init__(self, opset: int) -> None:
        self.of: dict[ir.Value | None, View] = {}
        self.opset = opset
        self.grids: dict[int, tuple[int, int]] = {}
        """A number of positions to the rows and columns of the last image with so many."""

    def read(self, node: ir.Node) -> bool:
        """Note what the outputs of a node are views of; return whether they all are."""
        find = _FINDERS.get(node.op_type) or (_activation if node.op_type in _ACTIVATIONS else None)
        if find is None or node.domain or node.device_configurations or not node.inputs:
            return False
        views = find(self, node)
        if views is None or any(_target(output) is None for output in node.outputs):
            return False
        self.of.update(zip(node.outputs, views, strict=True))
        return True

    def image(self, value: ir.Value | None) -> Source | None:
        """Return the image whose channels are the innermost axis of the elements of a value."""
        view = self.of.get(value)
        return view.source if view is not None and view.perm == ROWS else None

    def enter(self, source: Source) -> list[View]:
        """Return the view of an image, and remember how many rows and columns it has."""
        self.grids[source.dims[1] * source.dims[2]] = source.dims[1:]
        return [View(source, ROWS)]

    def as_is(self, value: ir.Value | None) -> View | None:
        """Return the view that a value is, shape and all; of heads if it is [n, h·w, heads, size]."""
        view = self.of.get(value)
        dims = _three_dims(value)
        if view is None or dims is None:
            return None
        full = (None, *view.source.dims)
        if dims == tuple(full[axis] for axis in view.perm[1:]):
            return view
        channels, height, width = view.source.dims
        positions, heads, size = dims
        if view.perm != ROWS or (positions, heads * size) != (height * width, channels):
            return None
        return View(view.source.reshaped((heads, size, positions)), _POSITIONS_FIRST)


def _target(value: ir.Value) -> object:
    dims = known_dims(value)
    return None if dims is None else new_target(dims)


def _three_dims(value: ir.Value | None) -> tuple[int, int, int] | None:
    """Return the dims after the first one, if there are three and all are known."""
    match known_dims(value) if value is not None else None:
        case [_, int(first), int(second), int(third)]:
            return first, second, third
    return None


def _transpose(views: Views, node: ir.Node) -> list[View] | None:
    """Follow a view, or begin one: of an image, or of what attention gives [n, heads, h·w, size]."""
    data, perm = node.inputs[0], tuple(node.attributes.get_ints("perm") or ())
    view, dims = views.as_is(data), _three_dims(data)
    if view is not None and perm:
        return [View(view.source, compose(view.perm, perm))]
    if data is None or data.shape is None or dims is None or data.dtype is not ir.DataType.FLOAT:
        return None
    batch = data.shape[0]
    if perm == ROWS:
        return views.enter(Source(batch, dims, lambda _new: data))
    heads, positions, size = dims
    grid = views.grids.get(positions) if perm == _HEADS_BEHIND_POSITIONS else None
    if grid is None:
        return None
    turn = {"perm": _SIZES_BEFORE_POSITIONS}
    turned = Source(batch, (heads, size, positions), lambda new: new.op("Transpose", data, attributes=turn))
    return [View(turned.reshaped((heads * size, *grid)), ROWS)]


def _reshape(views: Views, node: ir.Node) -> list[View] | None:
    """The same elements in the same order are the same view."""
    view = views.of.get(node.inputs[0])
    return None if view is None else [view]


def _activation(views: Views, node: ir.Node) -> list[View] | None:
    """Compute an operator of single elements on the source."""
    data, bounds = node.inputs[0], node.inputs[1:]
    view = views.of.get(data)
    if view is None or any(bound is not None and not is_const(bound) for bound in bounds):
        return None
    source = view.source

    def compute(new: Builder) -> ir.Value:
        return new.op(node.op_type, source.value(new), *bounds, attributes=node.attributes, like=node)

    return [View(Source(source.batch, source.dims, compute, source.convolved), view.perm)]


def _add(views: Views, node: ir.Node) -> list[View] | None:
    """Add two sources of one shape, viewed alike."""
    a, b = map(views.of.get, node.inputs)
    if a is None or b is None or (a.perm, a.source.dims) != (b.perm, b.source.dims):
        return None
    dims = dims_of(node.inputs[0])
    if dims is None or dims != dims_of(node.inputs[1]):
        return None
    left, right = a.source, b.source
    both = Source(
        left.batch,
        left.dims,
        lambda new: new.op("Add", left.value(new), right.value(new), like=node),
        left.convolved or right.convolved,
    )
    return [View(both, a.perm)]


def _is_plain(node: ir.Node) -> bool:
    """Whether a Gemm multiplies rows as they are, and scales nothing."""
    scales = {node.attributes.get_float(name, 1.0) for name in ("alpha", "beta")}
    return scales == {1.0} and not node.attributes.get_int("transA", 0)


def _gemm(views: Views, node: ir.Node) -> list[View] | None:
    """Multiply the rows of an image: a convolution with one weight for each pair of channels."""
    image, w, b = views.image(node.inputs[0]), input_of(node, 1), input_of(node, 2)
    row = known_dims(node.inputs[0]) if node.inputs[0] is not None else None
    if image is None or row is None or row[-1] != image.dims[0] or not _is_plain(node):
        return None
    turned = bool(node.attributes.get_int("transB", 0))
    dims = static_shape(w) if w is not None and is_const(w) and len(w.uses()) == 1 else None
    if w is None or dims is None or any(dim % _BLOCK for dim in dims):
        return None
    outputs = dims[0 if turned else 1]
    if b is not None and not (is_const(b) and static_shape(b) in ((outputs,), (1, outputs))):
        return None

    def compute(new: Builder) -> ir.Value:
        matrix = array_of(w) if turned else array_of(w).T
        weights = new.const(matrix[:, :, None, None], w)
        bias = None if b is None else new.const(array_of(b).reshape(-1), b)
        attributes = {"kernel_shape": [1, 1]}
        return new.op("Conv", image.value(new), weights, bias, attributes=attributes)

    return [View(Source(image.batch, (outputs, *image.dims[1:]), compute, convolved=True), ROWS)]


def _split(views: Views, node: ir.Node) -> list[View] | None:
    """Split the heads [n, positions, heads, size] along their size."""
    view = views.as_is(node.inputs[0])
    if view is None or view.perm != _POSITIONS_FIRST or node.attributes.get_int("axis", 0) % 4 != 3:
        return None
    sizes = [(known_dims(output) or [None])[-1] for output in node.outputs]
    if None in sizes or views.opset < _SPLIT_TAKES_SIZES:
        return None
    source, numbers = view.source, [size or 0 for size in sizes]
    parts: list[ir.Value] = []

    def part(index: int, new: Builder) -> ir.Value:
        if not parts:
            operands, along = (source.value(new), int64s(new, numbers)), {"axis": 2}
            new.op("Split", *operands, attributes=along, like=node, outputs=len(numbers))
            parts.extend(new.nodes[-1].outputs)
        return parts[index]

    heads, _, positions = source.dims
    return [
        View(
            Source(source.batch, (heads, size, positions), partial(part, index), source.convolved),
            _POSITIONS_FIRST,
        )
        for index, size in enumerate(numbers)
    ]


def _slice(views: Views, node: ir.Node) -> list[View] | None:
    """Take every other row and column, say, of an image."""
    view, dims = views.as_is(node.inputs[0]), _three_dims(node.outputs[0])
    starts, ends, axes, steps = (input_of(node, index) for index in (1, 2, 3, 4))
    sliced = integers_of(axes)
    if view is None or view.perm != ROWS or dims is None:
        return None
    if axes is None or axes.dtype is None or sliced is None:
        return None
    height, width, channels = dims
    source, moved = view.source, np.array([ROWS[axis] for axis in sliced], axes.dtype.numpy())
    if 0 in moved or channels != source.dims[0]:
        return None

    def compute(new: Builder) -> ir.Value:
        return new.op("Slice", source.value(new), starts, ends, new.const(moved), steps, like=node)

    return views.enter(Source(source.batch, (channels, height, width), compute, source.convolved))


_FINDERS: dict[str, Callable[[Views, ir.Node], list[View] | None]] = {
    "Add": _add,
    "Gemm": _gemm,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Transpose": _transpose,
}
