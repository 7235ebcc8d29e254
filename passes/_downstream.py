"""Shared by the folds over a distance: the constants behind a value that absorb a change of it.

The search goes down through operators that commute with the change, on every way that the value takes, and
ends in weights: Conv(x·s, w, b) = Conv(x, w·s, b).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from fuseonnx.core.constants import array_of, is_const
from fuseonnx.passes._affine import Vector
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


def downstream(value: ir.Value, change: Change, graph: ir.Graph | None, depth: int = MAX_DEPTH) -> Plan:
    """Return the edits after which all that reads `value` acts as if `change` had been made to it.

    Args:
        value: what lacks the change.
        change: a scale by positive or negative numbers, none of them 0, or a shift.
        graph: where all its users must be.
        depth: how many operators the search may pass.
    """
    users = [use.node for use in value.uses()]
    if value.is_graph_output() or len(users) != len(set(users)) or not fits(value, change) or depth == 0:
        return None
    plans: list[Plan] = []
    for use in value.uses():
        if use.node.graph is not graph or use.node.domain or use.node.device_configurations:
            return None
        plans.append(_absorbed(use.node, use.idx, value, change, depth - 1))
        if plans[-1] is None:
            return None
    return together(*plans)


def _absorbed(node: ir.Node, index: int, value: ir.Value, change: Change, depth: int) -> Plan:
    if node.op_type in CARRIERS:
        after = carried(node, change, value, node.outputs[0]) if index == 0 else None
        return None if after is None else downstream(node.outputs[0], after, node.graph, depth)
    handle = _HANDLERS.get(node.op_type)
    return None if handle is None else handle(node, index, change, depth)


def _conv(node: ir.Node, index: int, change: Change, _depth: int) -> Plan:
    """Group g of the channels of x meets rows g·M/group to (g+1)·M/group of the weight [M, C/group, k…]."""
    ndim = const_rank(node, 1)
    if index or ndim is None or change.axis not in {None, 1 - ndim}:
        return None
    groups = node.attributes.get_int("group", 1)

    def changed(w: Vector) -> Vector:
        channels = np.broadcast_to(change.values, (groups * w.shape[1],)).reshape(groups, 1, w.shape[1])
        by_group = w.reshape(groups, -1, *w.shape[1:])
        return (by_group * channels.reshape(*channels.shape, *(1,) * (ndim - 2))).reshape(w.shape)

    if change.is_scale:
        return edit(node, 1, changed)
    weight = node.inputs[1]
    if weight is None or _pads(node):
        return None
    others = tuple(range(1, ndim))
    return edit(
        node, 2, lambda b: b + changed(array_of(weight).astype(np.float64)).sum(axis=others), optional=True
    )


def _pads(conv: ir.Node) -> bool:
    auto = conv.attributes.get_string("auto_pad", "NOTSET")
    return auto not in {"NOTSET", "VALID"} or (
        auto == "NOTSET" and any(conv.attributes.get_ints("pads", [0]))
    )


def _conv_transpose(node: ir.Node, index: int, change: Change, _depth: int) -> Plan:
    """The channels of x are axis 0 of the weight [C, M/group, k…]; the edges see fewer of them."""
    ndim = const_rank(node, 1)
    if index or not change.is_scale or ndim is None or change.axis not in {None, 1 - ndim}:
        return None
    return edit(node, 1, lambda w: w * change.along(0, ndim))


def _gemm(node: ir.Node, index: int, change: Change, _depth: int) -> Plan:
    """α·A·B + β·C: the columns of A meet the rows of B."""
    flags, weight = node.attributes, node.inputs[1]
    if index or flags.get_int("transA", 0) or change.axis not in {None, -1}:
        return None
    if const_rank(node, 1) is None or weight is None:
        return None
    rows = 1 if flags.get_int("transB", 0) else 0
    if change.is_scale:
        return edit(node, 1, lambda w: w * change.along(rows, 2))
    if flags.get_float("beta", 1.0) != 1:
        return None
    alpha = flags.get_float("alpha", 1.0)

    def shifted(c: Vector) -> Vector:
        w: Vector = array_of(weight).astype(np.float64)
        added: Vector = (w * change.along(rows, 2)).sum(axis=rows)
        return c + alpha * added

    return edit(node, 2, shifted, optional=True)


def _matmul(node: ir.Node, index: int, change: Change, depth: int) -> Plan:
    """The columns of the left factor meet the rows of the right one; one number may go into either."""
    other = node.inputs[1 - index]
    if not change.is_scale:
        return _bias_behind(node, index, change)
    if other is not None and is_const(other):
        meets = index == 0 and change.axis == -1 and (const_rank(node, 1) or 0) > 1
        if change.axis is not None and not meets:
            return None
        moved = change if change.axis is None else change.on(-2)
        return edit(node, 1 - index, moved.apply)
    return _product_of_two(node, change, depth) if change.axis is None else None


def _bias_behind(node: ir.Node, index: int, change: Change) -> Plan:
    """A shift of x adds t·w to x·w, which the bias behind it takes."""
    weight, users = node.inputs[1], list(node.outputs[0].uses())
    if index or change.axis not in {None, -1} or const_rank(node, 1) != 2 or weight is None:
        return None
    if node.outputs[0].is_graph_output() or len(users) != 1:
        return None
    add, place = users[0].node, users[0].idx
    if add.op_type != "Add" or add.domain or add.graph is not node.graph or add.device_configurations:
        return None

    def shifted(b: Vector) -> Vector:
        w: Vector = array_of(weight).astype(np.float64)
        added: Vector = (w * change.along(0, 2)).sum(axis=0)
        return b + added

    return edit(add, 1 - place, shifted) if (const_rank(add, 1 - place) or 2) == 1 else None


def _product(node: ir.Node, index: int, change: Change, depth: int) -> Plan:
    """A constant factor takes a scale; of two variable ones the product does."""
    if not change.is_scale or is_idiom(node) or (node.op_type == "Div" and index):
        return None
    if const_rank(node, 1 - index) is not None:
        return edit(node, 1 - index, change.apply if node.op_type == "Mul" else change.undo)
    return _product_of_two(node, change, depth)


def _product_of_two(node: ir.Node, change: Change, depth: int) -> Plan:
    """In half precision the scale stays in front: without it the product may be out of range."""
    if node.outputs[0].dtype is ir.DataType.FLOAT16:
        return None
    return downstream(node.outputs[0], change, node.graph, depth)


def _sum(node: ir.Node, index: int, change: Change, depth: int) -> Plan:
    """x·s + c = (x + c/s)·s: a scale passes a constant term, and a shift ends in it.

    Where x·s + c makes a BatchNormalization, the scale stays: it comes free with the sum, which alone costs
    onnxruntime more (1.1 to 1.3 times the BatchNormalization at the shapes of PP-OCRv4).
    """
    if is_idiom(node) or (change.is_scale and _is_per_channel(change, node.outputs[0])):
        return None
    if change.is_scale:
        behind = downstream(node.outputs[0], change, node.graph, depth)
        return together(edit(node, 1 - index, change.undo), behind)
    return edit(node, 1 - index, change.apply if node.op_type == "Add" else change.undo)


def _is_per_channel(change: Change, value: ir.Value) -> bool:
    dims = known_dims(value)
    if dims is None or len(dims) < 3 or dims[1] is None:
        return False
    return change.axis in {None, 1 - len(dims)}


def _batch_norm(node: ir.Node, index: int, change: Change, _depth: int) -> Plan:
    """γ·(x·s - μ) = γ·s·(x - μ/s), and (x + t) - μ = x - (μ - t), on axis 1."""
    source = input_of(node, 0)
    dims = known_dims(source) if source is not None else None
    along_channels = change.axis is None or (dims is not None and change.axis == 1 - len(dims))
    if index or not is_inference(node) or not along_channels:
        return None
    moved = change.on(None if change.axis is None else -1)
    return together(edit(node, 1, moved.apply) if change.is_scale else [], edit(node, 3, moved.undo))


_HANDLERS: dict[str, Callable[[ir.Node, int, Change, int], Plan]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Add": _sum,
    "Sub": _sum,
    "Mul": _product,
    "Div": _product,
    "BatchNormalization": _batch_norm,
}
