"""Shared by the folds over a distance: find constants that change a value, and let others absorb them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fuseonnx.core.builder import Names, Refused
from fuseonnx.core.constants import Array, array_of, constant_tensor, contiguous, is_const
from fuseonnx.core.graph import detach, graphs_in, takes_initializers
from fuseonnx.core.journal import Journal
from fuseonnx.passes._affine import Vector, cast_finite, cast_weights
from fuseonnx.passes._change import Change, Edit, Plan, input_of, is_idiom
from fuseonnx.passes._dims import keeps_shape
from fuseonnx.passes._downstream import downstream
from fuseonnx.passes._upstream import upstream

_SCALES = frozenset({"Mul", "Div"})
_SHIFTS = frozenset({"Add", "Sub"})
_BROADCASTING_OPSET = 7
_OUT_OF_REACH = "no weights within reach absorb it"


def fold_changes(model: ir.Model, journal: Journal, name: str, *, scales: bool) -> None:
    """Remove each scale (or else shift) by constants that others before or behind it absorb."""
    imports = model.graph.opset_imports
    if imports.get("", imports.get("ai.onnx", 1)) < _BROADCASTING_OPSET:
        return
    names = Names(model)
    for graph in graphs_in(model.graph):
        if takes_initializers(graph, model):
            for node in graph:
                if node.op_type in (_SCALES if scales else _SHIFTS) and not node.domain:
                    _fold(node, journal, names, name)


def _fold(node: ir.Node, journal: Journal, names: Names, name: str) -> None:
    index = 0 if is_const(input_of(node, 1)) else 1
    change = _change(node, index)
    at = node.outputs[0].name or ""
    if change is None or is_idiom(node) or node.device_configurations or not journal.admits(name, at):
        return
    plan = upstream(node, index, change) or downstream(node.outputs[0], change, node.graph)
    try:
        new = _computed(plan, change)
    except Refused as refusal:
        journal.decline(name, at, node.op_type, str(refusal))
        return
    for edit, array in new:
        _set(edit, array, names)
    _remove(node, index)
    journal.record(name, at)


def _change(node: ir.Node, index: int) -> Change | None:
    """Return what a node with one constant does to its input `index`; None if it varies along two axes."""
    x, c = input_of(node, index), input_of(node, 1 - index)
    if x is None or c is None or not is_const(c) or is_const(x) or (index and node.op_type in {"Sub", "Div"}):
        return None
    tensor = constant_tensor(c)
    dims = tuple(tensor.shape.numpy())
    long = [axis for axis, dim in enumerate(dims) if dim != 1]
    if not tensor.dtype.is_floating_point() or len(long) > 1 or 0 in dims or not keeps_shape(x, dims):
        return None
    is_scale = node.op_type in _SCALES
    values: Vector = array_of(c).astype(np.float64).reshape(-1)
    if node.op_type == "Sub":
        values = -values
    elif node.op_type == "Div":
        with np.errstate(divide="ignore"):
            values = 1 / values
    if not np.isfinite(values).all() or (is_scale and not values.all()):
        return None
    return Change(is_scale, values, long[0] - len(dims) if long else None)


def _computed(plan: Plan, change: Change) -> list[tuple[Edit, Array]]:
    """Return the new constants.

    Raises:
        Refused: there is no plan, it changes one constant twice, or a new constant does not fit its dtype.
    """
    if plan is None or len({(edit.node, edit.slot) for edit in plan}) < len(plan):
        raise Refused(_OUT_OF_REACH)
    cast = cast_weights if change.is_scale else cast_finite
    result = []
    for edit in plan:
        old = input_of(edit.node, edit.slot)
        array = np.zeros(()) if old is None else array_of(old).astype(np.float64)
        like = old if old is not None else edit.node.inputs[1]
        assert like is not None
        result.append((edit, cast(edit.compute(array), constant_tensor(like).dtype.numpy())))
    return result


def _set(edit: Edit, array: Array, names: Names) -> None:
    node, old = edit.node, input_of(edit.node, edit.slot)
    base = (old.name if old is not None else None) or f"{node.outputs[0].name}/constant"
    name = names.fresh(base if old is None else f"{base}_folded".replace("_folded_folded", "_folded"))
    tensor = ir.Tensor(contiguous(array), name=name)
    value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=tensor.shape)
    assert isinstance(node.graph, ir.Graph)
    node.graph.register_initializer(value)
    if edit.slot >= len(node.inputs):
        node.resize_inputs(edit.slot + 1)
    node.replace_input_with(edit.slot, value)


def _remove(node: ir.Node, index: int) -> None:
    """Let the users of a node read its input, which takes the name of the result."""
    old, new = node.outputs[0], node.inputs[index]
    assert new is not None
    is_output, name = old.is_graph_output(), old.name
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    if is_output:
        old.name = None
        new.name, new.type, new.shape = name, old.type, old.shape
    detach(node)
