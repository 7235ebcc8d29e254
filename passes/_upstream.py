"""Shared by the folds over a distance: the constants before a value that absorb a change of it.

The search goes up through operators that commute with the change and have no other user, and ends in weights:
Conv(x, w, b)·s = Conv(x, w·s, b·s).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from fuseonnx.core.constants import array_of, constant_tensor, is_const
from fuseonnx.passes._affine import along
from fuseonnx.passes._change import (
    CARRIERS,
    MAX_DEPTH,
    Change,
    Plan,
    carried,
    const_rank,
    edit,
    fits,
    input_of,
    is_idiom,
    is_inference,
    together,
)
from fuseonnx.passes._dims import known_dims


def upstream(node: ir.Node, index: int, change: Change, depth: int = MAX_DEPTH, users: int = 1) -> Plan:
    """Return the edits after which input `index` of `node` is what `change` makes of it.

    Args:
        node: a user of that input.
        index: which input.
        change: a scale by positive or negative numbers, none of them 0, or a shift.
        depth: how many operators the search may pass.
        users: how many users the input has that the change is right for.
    """
    value = input_of(node, index)
    if value is None:
        return None
    if is_const(value):
        return edit(node, index, change.apply)
    producer = value.producer()
    if producer is None or producer.graph is not node.graph or producer.domain or depth == 0:
        return None
    if value.is_graph_output() or len(value.uses()) != users or producer.device_configurations:
        return None
    if not fits(value, change):
        return None
    if producer.op_type in CARRIERS and value is producer.outputs[0] and producer.inputs[0] is not None:
        before = carried(producer, change, value, producer.inputs[0])
        return None if before is None else upstream(producer, 0, before, depth - 1)
    handle = _HANDLERS.get(producer.op_type)
    return None if handle is None else handle(producer, value, change, depth - 1)


def _conv(node: ir.Node, _value: ir.Value, change: Change, _depth: int) -> Plan:
    """The channels of the result are axis 0 of the weight [M, C/group, k…]."""
    ndim = const_rank(node, 1)
    if ndim is None or change.axis not in {None, 1 - ndim}:
        return None
    return _weights(node, change, lambda w: w * along(change.values, 0, ndim))


def _conv_transpose(node: ir.Node, _value: ir.Value, change: Change, _depth: int) -> Plan:
    """Group g of the C rows of the weight [C, M/group, k…] makes group g of the M channels of the result."""
    ndim = const_rank(node, 1)
    if ndim is None or change.axis not in {None, 1 - ndim}:
        return None
    groups = node.attributes.get_int("group", 1)

    def scaled(w: np.ndarray) -> np.ndarray:
        by_group = w.reshape(groups, -1, *w.shape[1:])
        channels = w.shape[1] if change.axis is not None else 1
        return (by_group * change.values.reshape(-1, 1, channels, *(1,) * (ndim - 2))).reshape(w.shape)

    return _weights(node, change, scaled)


def _weights(node: ir.Node, change: Change, scaled: Callable[[np.ndarray], np.ndarray]) -> Plan:
    """The bias of a Conv or a ConvTranspose is one number for each channel of the result, or absent."""
    weights = edit(node, 1, scaled) if change.is_scale else []
    if input_of(node, 2) is None and change.is_scale:
        return weights
    channels = _channels(node)
    moved = change.on(None if change.axis is None else -1)
    bias = edit(node, 2, lambda b: np.broadcast_to(moved.apply(b), (channels,)), optional=True)
    return together(weights, bias)


def _channels(node: ir.Node) -> int:
    weight = node.inputs[1]
    assert weight is not None
    shape = constant_tensor(weight).shape.numpy()
    return int(shape[0]) if node.op_type == "Conv" else int(shape[1]) * node.attributes.get_int("group", 1)


def _gemm(node: ir.Node, _value: ir.Value, change: Change, _depth: int) -> Plan:
    """α·A·B + β·C: the columns of the result are those of B, or its rows where it is transposed."""
    if change.axis not in {None, -1}:
        return None
    if not change.is_scale:
        beta = node.attributes.get_float("beta", 1.0)
        return edit(node, 2, change.apply, optional=True) if beta == 1 else None
    moved = change if not node.attributes.get_int("transB", 0) or change.axis is None else change.on(-2)
    return together(edit(node, 1, moved.apply), edit(node, 2, change.apply) if input_of(node, 2) else [])


def _matmul(node: ir.Node, value: ir.Value, change: Change, depth: int) -> Plan:
    """The columns of the result are those of the right factor; one number may go into either factor."""
    if not change.is_scale:
        return None
    if const_rank(node, 1) is not None:
        fitting = change.axis is None or (change.axis == -1 and (const_rank(node, 1) or 0) > 1)
        return edit(node, 1, change.apply) if fitting else None
    return _factor(node, value, change, depth) if change.axis is None else None


def _sum(node: ir.Node, _value: ir.Value, change: Change, depth: int) -> Plan:
    """A scale goes into both terms, a shift into one of them."""
    if is_idiom(node):
        return None
    if change.is_scale:
        return together(*(upstream(node, index, change, depth) for index in (0, 1)))
    if node.op_type == "Sub":
        return edit(node, 1, change.undo) or upstream(node, 0, change, depth)
    return _either(node, change, depth)


def _product(node: ir.Node, value: ir.Value, change: Change, depth: int) -> Plan:
    """A scale goes into one factor, or into the dividend; else it divides the divisor."""
    if not change.is_scale or is_idiom(node):
        return None
    if node.op_type == "Mul":
        return _factor(node, value, change, depth)
    return edit(node, 1, change.undo) or upstream(node, 0, change, depth)


def _factor(node: ir.Node, value: ir.Value, change: Change, depth: int) -> Plan:
    """A factor of a product; in half precision none grows, for the product of both may be out of range."""
    if value.dtype is ir.DataType.FLOAT16 and np.abs(change.values).max() > 1:
        return None
    return _either(node, change, depth)


def _either(node: ir.Node, change: Change, depth: int) -> Plan:
    """A constant first, then the operands in their order."""
    order = (1, 0) if is_const(node.inputs[1]) else (0, 1)
    for index in order:
        plan = upstream(node, index, change, depth)
        if plan is not None:
            return plan
    return None


def _batch_norm(node: ir.Node, value: ir.Value, change: Change, _depth: int) -> Plan:
    """BatchNormalization and InstanceNormalization: γ and β have one number for each index of axis 1."""
    dims = known_dims(value)
    along_channels = change.axis is None or (dims is not None and change.axis == 1 - len(dims))
    if not is_inference(node) or not along_channels:
        return None
    moved = change.on(None if change.axis is None else -1)
    return together(edit(node, 1, moved.apply) if change.is_scale else [], edit(node, 2, moved.apply))


def _layer_norm(node: ir.Node, _value: ir.Value, change: Change, _depth: int) -> Plan:
    """γ and β have the dims of the last axes; β may be absent."""
    ndim = const_rank(node, 1)
    if ndim is None or (change.axis is not None and -change.axis > ndim) or len(node.outputs) > 1:
        return None
    weights = edit(node, 1, change.apply) if change.is_scale else []
    return together(weights, edit(node, 2, change.apply) if input_of(node, 2) or not change.is_scale else [])


def _gather(node: ir.Node, _value: ir.Value, change: Change, depth: int) -> Plan:
    """A constant table takes one number; of a variable one, an index that no other Gather takes does."""
    table = node.inputs[0]
    if change.axis is not None or table is None:
        return None
    if is_const(table):
        return edit(node, 0, change.apply)
    dims = known_dims(table)
    axis = node.attributes.get_int("axis", 0) % len(dims) - len(dims) if dims else 0
    size = dims[axis] if dims and axis else None
    users = [use.node for use in table.uses()]
    taken = [_only_index(user, axis, len(dims or ()), size) for user in users]
    mine = _only_index(node, axis, len(dims or ()), size)
    if not size or mine is None or None in taken or taken.count(mine) > 1:
        return None
    values = np.full(size, 1.0 if change.is_scale else 0.0)
    values[mine] = change.values[0]
    return upstream(node, 0, Change(change.is_scale, values, axis), depth, users=len(users))


def _only_index(node: ir.Node, axis: int, ndim: int, size: int | None) -> int | None:
    """Return the one index of `axis` that a node takes from its first input; None if it takes more."""
    index = input_of(node, 1)
    if node.op_type != "Gather" or node.domain or not size or index is None or const_rank(node, 1) != 0:
        return None
    if node.attributes.get_int("axis", 0) % ndim - ndim != axis:
        return None
    return int(array_of(index).item()) % size


def _concat(node: ir.Node, value: ir.Value, change: Change, depth: int) -> Plan:
    """Each part takes its own numbers."""
    parts = range(len(node.inputs))
    if change.axis is None:
        return together(*(upstream(node, part, change, depth) for part in parts))
    dims = [known_dims(part) if part is not None else None for part in (value, *node.inputs)]
    if None in dims:
        return None
    axis = node.attributes.get_int("axis", 0) % len(dims[0] or ()) - len(dims[0] or ())
    if change.axis != axis:
        return together(*(upstream(node, part, change, depth) for part in parts))
    sizes = [(each or [])[axis] for each in dims[1:]]
    if None in sizes:
        return None
    bounds = np.cumsum([size or 0 for size in sizes])[:-1]
    own = [Change(change.is_scale, values, axis) for values in np.split(change.values, bounds)]
    return together(*(upstream(node, part, each, depth) for part, each in enumerate(own)))


def _split(node: ir.Node, value: ir.Value, change: Change, depth: int) -> Plan:
    """The other parts stay as they are: they are scaled by 1, or shifted by 0."""
    dims = [known_dims(part) for part in node.outputs]
    if None in dims:
        return None
    axis = node.attributes.get_int("axis", 0) % len(dims[0] or ()) - len(dims[0] or ())
    sizes = [(each or [])[axis] for each in dims]
    if change.axis not in {None, axis} or None in sizes:
        return None
    nothing = np.full(1, 1.0 if change.is_scale else 0.0)
    parts = [
        np.broadcast_to(change.values if part is value else nothing, (size or 0,))
        for part, size in zip(node.outputs, sizes, strict=True)
    ]
    return upstream(node, 0, Change(change.is_scale, np.concatenate(parts), axis), depth)


_HANDLERS: dict[str, Callable[[ir.Node, ir.Value, Change, int], Plan]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Add": _sum,
    "Sub": _sum,
    "Mul": _product,
    "Div": _product,
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "Gather": _gather,
    "Concat": _concat,
    "Split": _split,
}
