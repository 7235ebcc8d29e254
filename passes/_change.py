"""Shared by the folds over a distance: a scale or a shift of a value, and how it passes other operators.

A change of a node's result is the same as a change of its input, or the other way round, where the node
commutes with it: f(x·s) = f(x)·s. `carried` says what becomes of the change on the other side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.constants import constant_tensor, is_const
from fuseonnx.passes._affine import Vector
from fuseonnx.passes._dims import known_dims

MAX_DEPTH = 16
_SMALL_BYTES = 1 << 12
_ELEMENTWISE = frozenset({"Identity", "Relu", "LeakyRelu", "PRelu", "Abs", "Neg"})
_POOLS = frozenset({"MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"})
_REDUCTIONS = frozenset({"ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum"})
_RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
_RESIZES = frozenset({"Expand", "Tile", "Pad", "Resize", "Upsample"})
CARRIERS = _ELEMENTWISE | _POOLS | _REDUCTIONS | _RESHAPES | _RESIZES | {"Transpose"}
"""Operators that may carry a change between their first input and their only result."""

_NEED_POSITIVE = frozenset(
    {"Relu", "LeakyRelu", "PRelu", "Abs", "MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin"}
)
_SCALES_ONLY = (_ELEMENTWISE - {"Identity"}) | {"ReduceSum"} | _RESIZES
_IDIOM_DEPTH = 3
_IDIOM_OPS = frozenset({"Add", "Sub", "Mul", "Div"})
_IDIOM_CORES = {
    "Add": frozenset({"Erf", "Tanh"}),
    "Div": frozenset({"Sqrt"}),
    "Mul": frozenset({"Reciprocal"}),
}
"""The last but one steps of Gelu and of the normalizations, as exporters spell them out."""


@dataclass(frozen=True)
class Change:
    """y·values or y + values.

    Attributes:
        is_scale: which of the two.
        values: one number, or one for each index of `axis`.
        axis: counted from the end, so negative; None if there is but one number.
    """

    is_scale: bool
    values: Vector
    axis: int | None = None

    def on(self, axis: int | None) -> Change:
        """Return the same numbers along another axis."""
        return replace(self, axis=axis)

    def along(self, axis: int, ndim: int) -> Vector:
        """Return the numbers shaped to broadcast along `axis` of a tensor of `ndim`."""
        return self.values.reshape([-1 if index == axis else 1 for index in range(ndim)] or ())

    def apply(self, array: Vector) -> Vector:
        """Return an array, aligned with the changed value, after the change."""
        values = self.values.reshape(()) if self.axis is None else self.along(0, -self.axis)
        return array * values if self.is_scale else array + values

    def undo(self, array: Vector) -> Vector:
        """Return an array, aligned with the changed value, after the opposite change."""
        values = 1 / self.values if self.is_scale else -self.values
        return replace(self, values=values).apply(array)


class Edit(NamedTuple):
    """A constant that absorbs its part of a change: input `slot` of `node`, 0 where it is absent."""

    node: ir.Node
    slot: int
    compute: Callable[[Vector], Vector]


Plan = list[Edit] | None
"""All that absorbs a change, or None if something cannot."""


def together(*plans: Plan) -> Plan:
    """Return the edits of all plans, or None if one of them failed."""
    edits: list[Edit] = []
    for plan in plans:
        if plan is None:
            return None
        edits += plan
    return edits


def edit(node: ir.Node, index: int, compute: Callable[[Vector], Vector], *, optional: bool = False) -> Plan:
    """Plan to compute a constant anew; not if it is large and shared, for it would be stored twice.

    Args:
        node: the node that reads it.
        index: which input it is.
        compute: gives the new constant, in float64, from the old one.
        optional: whether the input may be absent.
    """
    value = input_of(node, index)
    if value is not None:
        if not is_const(value):
            return None
        tensor = constant_tensor(value)
        if not tensor.dtype.is_floating_point() or (len(value.uses()) > 1 and tensor.nbytes > _SMALL_BYTES):
            return None
    return [Edit(node, index, compute)] if value is not None or optional else None


def const_rank(node: ir.Node, index: int) -> int | None:
    """Return the rank of a constant input, or None if it is not constant."""
    value = input_of(node, index)
    return len(constant_tensor(value).shape) if value is not None and is_const(value) else None


def is_inference(normalization: ir.Node) -> bool:
    """Whether a BatchNormalization is the plain inference form since opset 7, with statistics per channel."""
    flags, more = normalization.attributes, normalization.outputs[1:]
    return (
        not flags.get_int("training_mode", 0)
        and bool(flags.get_int("spatial", 1))
        and not any(output.name for output in more)
    )


def input_of(node: ir.Node, index: int) -> ir.Value | None:
    """Return an input of a node, or None if it is absent."""
    return node.inputs[index] if index < len(node.inputs) else None


def fits(value: ir.Value, change: Change) -> bool:
    """Whether a change surely leaves the shape of a value as it is."""
    if change.axis is None:
        return True
    dims = known_dims(value)
    return dims is not None and -change.axis <= len(dims) and dims[change.axis] == len(change.values)


def carried(node: ir.Node, change: Change, source: ir.Value, target: ir.Value) -> Change | None:
    """Return the change of `target` that is the same as `change` of `source`; None if there is none.

    Args:
        node: one of `CARRIERS`.
        change: what happens to `source`.
        source: the first input of `node`, or its result.
        target: the other one of them.
    """
    kind = node.op_type
    if not _commutes(node, change):
        return None
    if change.axis is None:
        return change
    if kind == "Transpose":
        moved = _transposed(node, change, up=source is node.outputs[0])
    elif kind in _RESHAPES:
        moved = _reshaped(change, source, target)
    elif kind in _POOLS:
        moved = change if change.axis == 1 - (rank(source) or 0) else None
    elif kind in _REDUCTIONS:
        moved = change if node.attributes.get_int("keepdims", 1) else None
    else:
        moved = change if kind in _ELEMENTWISE else None
    return moved if moved is not None and fits(target, moved) else None


def _commutes(node: ir.Node, change: Change) -> bool:
    kind, flags = node.op_type, node.attributes
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return False
    if change.is_scale and kind in _NEED_POSITIVE and (change.values <= 0).any():
        return False
    if not change.is_scale and kind in _SCALES_ONLY:
        return False
    if kind == "AveragePool" and not change.is_scale:
        padded = any(flags.get_ints("pads", [0])) or flags.get_string("auto_pad", "NOTSET") != "NOTSET"
        return not padded and not flags.get_int("ceil_mode", 0)
    if kind == "Pad":
        return input_of(node, 2) is None and not flags.get_float("value", 0.0)
    if kind == "Resize":
        return flags.get_string("coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize"
    return True


def _transposed(node: ir.Node, change: Change, *, up: bool) -> Change | None:
    axis, ndim = change.axis, rank(node.outputs[0])
    if axis is None or ndim is None:
        return None
    perm = node.attributes.get_ints("perm", range(ndim)[::-1])
    to = perm[axis] if up else list(perm).index(axis + len(perm))
    return change.on(to - len(perm))


def _reshaped(change: Change, source: ir.Value, target: ir.Value) -> Change | None:
    """Find the axis of `target` along which alone the numbers vary.

    An element's index along an axis is its place in row-major order, divided by the size of what follows the
    axis, modulo the size of the axis.
    """
    dims, others, axis = known_dims(source), known_dims(target), change.axis
    if dims is None or others is None or axis is None:
        return None
    after = _product(dims[axis + 1 :] if axis < -1 else [])
    size = len(change.values)
    inner = 1
    for to in range(-1, -len(others) - 1, -1):
        other = others[to]
        if not after or not other or after % inner:
            return None
        if inner * other >= after * size:
            if (inner * other) % (after * size):
                return None
            step = after // inner
            indices = [(index // step) % size for index in range(other)]
            return Change(change.is_scale, change.values[indices], to)
        inner *= other
    return None


def _product(dims: list[int | None]) -> int | None:
    return None if None in dims else math.prod(dim for dim in dims if dim is not None)


def is_idiom(node: ir.Node, depth: int = _IDIOM_DEPTH) -> bool:
    """Whether a node may belong to a Gelu or a normalization spelled out, which onnxruntime fuses whole."""
    if node.op_type not in _IDIOM_OPS or node.domain or depth == 0:
        return False
    producers = [producer for value in node.inputs if value is not None and (producer := value.producer())]
    cores = _IDIOM_CORES.get(node.op_type, frozenset())
    return any(producer.op_type in cores or is_idiom(producer, depth - 1) for producer in producers)
