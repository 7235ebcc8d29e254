"""Shared by the moves of Transposes: what each operator becomes when its data comes in another layout.

For an operator y = op(x) and the perm of x or y, the table gives the perms of all its data, and the
attributes and parameters with which op gives y' from x'. What is not in the table must have its own layout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.constants import Array, constant_tensor, is_const
from fuseonnx.passes._dims import derived_dims, known_dims
from fuseonnx.passes._flip import Flip, Perm, View, inverse, volume
from fuseonnx.passes._reshaped import dims_of, new_target, perm_through

_MAX_COPIED_BYTES = 1 << 12
"""A constant with other users is permuted into a copy up to this size."""
_ROW = 32
"""Starting on a row of a broadcast takes about as long as it takes to transpose this many elements."""
_MAX_TABLE_BYTES = 1 << 16
"""A table may be gathered from in another layout, element by element, as long as the cache holds it."""


def flip(node: ir.Node, value: ir.Value, perm: Perm, opset: int) -> Flip | None:
    """Return what `node` becomes if `value`, one of its inputs or outputs, is seen through `perm`.

    None if it has no such form, or nothing is sure: an unknown rank, axes that are not constant.
    """
    find = _TABLE.get(node.op_type)
    if find is None or node.domain or node.device_configurations:
        return None
    if any(attribute.is_ref() for attribute in node.attributes.values()):
        return None
    above = value.producer() is not node
    found = find(View(node, perm, above, opset))
    if found is None:
        return None
    constants = [node.inputs[index] for index in found.inputs if is_const(node.inputs[index])]
    if not all(_may_copy(constant) for constant in constants if constant is not None):
        return None
    sides = [found.inputs.get(index) for index, x in enumerate(node.inputs) if x is value]
    return found if all(side == perm for side in (sides if above else [found.output])) else None


def _operands(view: View, perm: Perm, indices: Sequence[int]) -> dict[int, Perm] | None:
    """Return the inputs that change, of those that broadcast with data of this perm; None if one cannot."""
    changed = {}
    for index in indices:
        value = view.node.inputs[index]
        if value is None:
            continue
        dims = known_dims(value)
        if dims is None or len(dims) > len(perm):
            return None
        offset = len(perm) - len(dims)
        if offset or is_const(value):
            moves = any(perm[offset + at] != offset + at for at, dim in enumerate(dims) if dim != 1)
            if not moves:
                continue
            if not is_const(value):
                return None
        changed[index] = perm
    return changed


def _may_copy(value: ir.Value) -> bool:
    tensor = constant_tensor(value)
    if tensor.dtype is ir.DataType.STRING:
        return False
    return len(value.uses()) == 1 or tensor.nbytes <= _MAX_COPIED_BYTES


def _elementwise(view: View) -> Flip | None:
    node = view.node
    if view.opset < 7 and len(node.inputs) > 1:  # an attribute says where the second operand meets the first
        return None
    if len(node.inputs) == 1:
        return Flip({0: view.perm}, view.perm)
    inputs = _operands(view, view.perm, range(len(node.inputs)))
    return None if inputs is None else Flip(inputs, view.perm, penalty=_more_rows(view))


def _more_rows(view: View) -> int:
    """Return what it costs that constants of one axis meet shorter rows in the new layout than in the old.

    onnxruntime's kernels take a row at a time: along the axis of the constant if that is the last one, else
    all that lies behind it.
    """
    dims = derived_dims(view.node.outputs[0])
    if dims is None or len(dims) != len(view.perm):
        return 0
    moved = [dims[old] for old in inverse(view.perm)]
    cost = 0
    for value in view.node.inputs:
        if value is not None and is_const(value):
            shape = tuple(constant_tensor(value).shape.numpy())
            axes = [len(dims) - len(shape) + at for at, dim in enumerate(shape) if dim != 1]
            if len(axes) == 1:
                cost += _rows(moved, view.perm[axes[0]]) - _rows(dims, axes[0])
    return _ROW * cost


def _rows(dims: Sequence[int | None], axis: int) -> int:
    return volume(dims[: axis if axis == len(dims) - 1 else axis + 1])


def _axis(view: View, default: int | None = None) -> int | None:
    axis = view.node.attributes.get_int("axis", default)
    if axis is None or not -len(view.perm) <= axis < len(view.perm):
        return None
    return axis % len(view.perm)


def _softmax(view: View) -> Flip | None:
    axis, last = _axis(view, -1 if view.opset >= 13 else 1), len(view.perm) - 1
    if axis is None:
        return None
    moved = view.perm[axis]
    if view.opset < 13 and not axis == moved == last:  # it runs over all axes from this one on
        return None
    inside = (moved != last) - (axis != last)  # off the last axis, there is a Transpose on both sides
    dims = derived_dims(view.node.outputs[0]) or [None] * len(view.perm)
    penalty = 2 * inside * volume(dims)
    return Flip({0: view.perm}, view.perm, {"axis": moved}, penalty=penalty)


def _concat(view: View) -> Flip | None:
    axis = _axis(view, 1 if view.opset < 4 else None)
    values = [value for value in view.node.inputs if value is not None]
    if axis is None or any(rank(value) != len(view.perm) for value in values):
        return None
    if any(is_const(value) for value in values):
        return None
    return Flip(dict.fromkeys(range(len(values)), view.perm), view.perm, {"axis": view.perm[axis]})


def _split(view: View) -> Flip | None:
    axis = _axis(view, 0)
    return None if axis is None else Flip({0: view.perm}, view.perm, {"axis": view.perm[axis]})


def _gather(view: View) -> Flip | None:
    table, picked = view.node.inputs[0], rank(view.node.inputs[1])
    if table is None or (is_const(table) and constant_tensor(table).nbytes > _MAX_TABLE_BYTES):
        return None
    axis = view.node.attributes.get_int("axis", 0)
    if picked == 0:
        return _dropping(view, (axis,), lambda axes: ({"axis": axes[0]}, {}))
    return _split(view) if picked == 1 else None


def _arg(view: View) -> Flip | None:
    axis = view.node.attributes.get_int("axis", 0)
    if view.node.attributes.get_int("keepdims", 1):
        return _split(view)
    return _dropping(view, (axis,), lambda axes: ({"axis": axes[0]}, {}))


_Changes = tuple[Mapping[str, int | Sequence[int]], Mapping[int, Array]]


def _axes(view: View) -> tuple[int, ...] | None:
    """Return the axes that an attribute or the second input names; None if they are open."""
    given = view.node.attributes.get_ints("axes")
    if given is not None:
        return tuple(given)
    data = view.constant(1)
    return tuple(int(axis) for axis in data.reshape(-1)) or None if data is not None else None


def _with_axes(view: View) -> Callable[[Sequence[int]], _Changes]:
    if "axes" in view.node.attributes:
        return lambda axes: ({"axes": axes}, {})
    return lambda axes: ({}, {1: np.array(axes, dtype=np.int64)})


def _reduce(view: View) -> Flip | None:
    axes = _axes(view)
    if axes is None:
        return None
    if not view.node.attributes.get_int("keepdims", 1):
        return _dropping(view, axes, _with_axes(view))
    if not all(-len(view.perm) <= axis < len(view.perm) for axis in axes):
        return None
    return _flip_changed(view.perm, view.perm, _with_axes(view)(sorted(view.perm[axis] for axis in axes)))


def _squeeze(view: View) -> Flip | None:
    axes = _axes(view)
    return None if axes is None else _dropping(view, axes, _with_axes(view))


def _unsqueeze(view: View) -> Flip | None:
    axes = _axes(view)
    if axes is None:
        return None
    swapped = View(view.node, view.perm, not view.above, view.opset)
    found = _dropping(swapped, axes, _with_axes(view))
    return found and Flip({0: found.output}, found.inputs[0], found.attributes, found.parameters)


def _dropping(view: View, axes: Sequence[int], changes: Callable[[Sequence[int]], _Changes]) -> Flip | None:
    """Return the flip of an operator whose output lacks these axes of its input."""
    wide_rank = len(view.perm) + (0 if view.above else len(axes))
    dropped = {axis % wide_rank for axis in axes} if wide_rank else set()
    if len(dropped) != len(axes) or not all(-wide_rank <= axis < wide_rank for axis in axes):
        return None
    rest = [axis for axis in range(wide_rank) if axis not in dropped]
    if view.above:
        wide = view.perm
        images = [wide[axis] for axis in rest]
        narrow = tuple(sorted(images).index(image) for image in images)
    else:
        narrow = view.perm
        places = iter([rest[axis] for axis in narrow])
        wide = tuple(axis if axis in dropped else next(places) for axis in range(wide_rank))
    return _flip_changed(wide, narrow, changes(sorted(wide[axis] for axis in dropped)))


def _flip_changed(data: Perm, output: Perm, changes: _Changes) -> Flip:
    return Flip({0: data}, output, *changes)


def _slice(view: View) -> Flip | None:
    if view.opset < 10:
        axes = view.node.attributes.get_ints("axes")
        if axes is None or not _in_range(axes, view.perm):
            return None
        return Flip({0: view.perm}, view.perm, {"axes": [view.perm[axis] for axis in axes]})
    data = view.constant(3)
    return _moved_axes(view, data, 3)


def _moved_axes(view: View, axes: Array | None, index: int) -> Flip | None:
    """Return the flip of an operator that lists, in an input, the axes that its other parameters are for."""
    if axes is None or not _in_range(axes.tolist(), view.perm):
        return None
    moved = np.array([view.perm[axis] for axis in axes.tolist()], dtype=axes.dtype)
    return Flip({0: view.perm}, view.perm, parameters={index: moved})


def _in_range(axes: Sequence[int], perm: Perm) -> bool:
    return all(-len(perm) <= axis < len(perm) for axis in axes)


def _pad(view: View) -> Flip | None:
    order = inverse(view.perm)
    if view.opset < 11:
        pads = view.node.attributes.get_ints("pads")
        if pads is None:
            return None
        return Flip({0: view.perm}, view.perm, {"pads": np.reshape(pads, (2, -1))[:, order].ravel().tolist()})
    if view.has(3):
        return _moved_axes(view, view.constant(3), 3)
    data = view.constant(1)
    if data is None or data.size != 2 * len(order):
        return None
    return Flip({0: view.perm}, view.perm, parameters={1: data.reshape(2, -1)[:, order].reshape(-1)})


def _sized(view: View) -> Flip | None:
    """Tile and Expand: one number for each axis."""
    data = view.constant(1)
    if data is None or rank(view.node.inputs[0]) != len(view.perm) or data.size > len(view.perm):
        return None
    full = np.concatenate([np.ones(len(view.perm) - data.size, data.dtype), data])
    return Flip({0: view.perm}, view.perm, parameters={1: full[list(inverse(view.perm))]})


def _resize(view: View) -> Flip | None:
    """Resize of all axes by constants, if it then acts on the last two, as onnxruntime's kernels want it."""
    node, order = view.node, list(inverse(view.perm))
    mode = node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
    if view.opset < 11 or mode == "tf_crop_and_resize" or "axes" in node.attributes:
        return None
    index = 3 if view.has(3) else 2
    data, dims = view.constant(index), known_dims(node.inputs[0]) if node.inputs[0] is not None else None
    if data is None or data.size != len(order) or dims is None:
        return None
    kept = np.ones(len(order)) if index == 2 else np.array([-1 if dim is None else dim for dim in dims])
    if any(data[axis] != kept[axis] and view.perm[axis] < len(order) - 2 for axis in range(len(order))):
        return None
    return Flip({0: view.perm}, view.perm, parameters={index: data[order]})


def _layer_normalization(view: View) -> Flip | None:
    axis = _axis(view, -1)
    if axis is None or view.perm[axis:] != tuple(range(axis, len(view.perm))):
        return None
    return None if any(output.uses() for output in view.node.outputs[1:]) else Flip({0: view.perm}, view.perm)


def _matmul(view: View) -> Flip | None:
    """Multiply each row with one matrix, however the rows are stacked."""
    matrix, last = view.node.inputs[1], len(view.perm) - 1
    if rank(matrix) != 2 or view.perm[last] != last or rank(view.node.inputs[0]) != len(view.perm):
        return None
    return None if matrix is view.node.inputs[0] else Flip({0: view.perm}, view.perm)


def _batch_normalization(view: View) -> Flip | None:
    if len(view.perm) < 2 or view.perm[1] != 1 or len(view.node.outputs) > 1:
        return None
    per_element = view.node.attributes.get_int("spatial", 1) == 0
    return None if per_element else Flip({0: view.perm}, view.perm)


def _quantize(view: View) -> Flip | None:
    scales = rank(view.node.inputs[1])
    if scales is None or scales > 1 or view.node.attributes.get_int("block_size", 0) != 0:
        return None
    if scales == 0:
        return Flip({0: view.perm}, view.perm)
    axis = _axis(view, 1)
    return None if axis is None else Flip({0: view.perm}, view.perm, {"axis": view.perm[axis]})


def _reshape(view: View) -> Flip | None:
    """A Reshape that splits or merges axes which stay side by side."""
    data, result = (dims_of(value) for value in (view.node.inputs[0], view.node.outputs[0]))
    if data is None or result is None or not view.has(1):
        return None
    through = perm_through(data, result, view.perm) if view.above else perm_through(result, data, view.perm)
    if through is None:
        return None
    above, below = (view.perm, through) if view.above else (through, view.perm)
    target = new_target([result[axis] for axis in inverse(below)])
    return None if target is None else Flip({0: above}, below, parameters={1: target})


_UNARY = """
    Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Clip Cos Cosh Elu Erf Exp Floor Gelu
    HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink
    Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu
"""
_BROADCASTING = """
    Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max
    Mean Min Mod Mul Or PRelu Pow Sub Sum Where Xor
"""
_REDUCTIONS = """
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare
"""
_TABLE: Mapping[str, Callable[[View], Flip | None]] = {
    **dict.fromkeys(f"{_UNARY} {_BROADCASTING}".split(), _elementwise),
    **dict.fromkeys(_REDUCTIONS.split(), _reduce),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _softmax),
    **dict.fromkeys(("Tile", "Expand"), _sized),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), _quantize),
    "BatchNormalization": _batch_normalization,
    "Concat": _concat,
    "Gather": _gather,
    "LayerNormalization": _layer_normalization,
    "MatMul": _matmul,
    "Pad": _pad,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}
