"""Shared by the folds over a distance: find constants that change a value, and let others absorb them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Names, Refused
from fuseonnx.core.constants import Array, array_of, constant_tensor, contiguous, is_const
from fuseonnx.core.graph import detach, graphs_in, opset_of, takes_initializers
from fuseonnx.core.journal import Journal
from fuseonnx.core.pattern import Captures
from fuseonnx.core.rule import Match
from fuseonnx.passes._affine import Vector, batch_norm_affine, cast_finite, cast_weights
from fuseonnx.passes._change import Change, Edit, input_of, is_idiom, is_inference
from fuseonnx.passes._dims import keeps_shape
from fuseonnx.passes._downstream import downstream
from fuseonnx.passes._late import Late, scaled_late
from fuseonnx.passes._upstream import upstream

_BROADCASTING_OPSET = 7
_OUT_OF_REACH = "no weights within reach absorb it"


def fold_changes(model: ir.Model, journal: Journal, name: str, ops: frozenset[str]) -> None:
    """Remove each node of `ops` that changes a value by constants which others before or behind it absorb."""
    if opset_of(model.graph) < _BROADCASTING_OPSET:
        return
    names = Names(model)
    for graph in graphs_in(model.graph):
        if takes_initializers(graph, model):
            for node in graph:
                if node.op_type in ops and not node.domain:
                    _fold(node, journal, names, name)


def _fold(node: ir.Node, journal: Journal, names: Names, name: str) -> None:
    index = 1 if is_const(input_of(node, 0)) else 0
    changes = _batch_norm(node) if node.op_type == "BatchNormalization" else _arithmetic(node, index)
    at = node.outputs[0].name or ""
    if not changes or is_idiom(node) or node.device_configurations or not journal.admits(name, at):
        return
    try:
        new = _computed(_plans(node, index, changes), changes)
    except Refused as refusal:
        journal.decline(name, at, node.op_type, str(refusal))
        return
    for (target, slot), array in new.items():
        _set(target, slot, array, names)
    _remove(node, index)
    journal.record(name, at)


def _arithmetic(node: ir.Node, index: int) -> list[Change]:
    """Return what a node with one constant does to its input `index`; nothing if it varies along two axes."""
    x, c = input_of(node, index), input_of(node, 1 - index)
    if x is None or c is None or not is_const(c) or is_const(x) or (index and node.op_type in {"Sub", "Div"}):
        return []
    tensor = constant_tensor(c)
    dims = tuple(tensor.shape.numpy())
    long = [axis for axis, dim in enumerate(dims) if dim != 1]
    if not tensor.dtype.is_floating_point() or len(long) > 1 or 0 in dims or not keeps_shape(x, dims):
        return []
    values: Vector = array_of(c).astype(np.float64).reshape(-1)
    if node.op_type == "Sub":
        values = -values
    elif node.op_type == "Div":
        with np.errstate(divide="ignore"):
            values = 1 / values
    change = Change(node.op_type in {"Mul", "Div"}, values, long[0] - len(dims) if long else None)
    return [change] if _can_be_undone(change) else []


def _batch_norm(node: ir.Node) -> list[Change]:
    """Return the scale and then the shift of an inference BatchNormalization with constant statistics."""
    statistics = dict(zip(("gamma", "beta", "mean", "var"), node.inputs[1:], strict=False))
    dims = rank(node.inputs[0])
    if dims is None or is_const(node.inputs[0]) or not is_inference(node):
        return []
    if not all(is_const(each) for each in statistics.values()):
        return []
    match = Match(node, Captures(statistics, {"bn": node}), _BROADCASTING_OPSET)
    scale, shift = batch_norm_affine(match)
    changes = [Change(True, scale, 1 - dims), Change(False, shift, 1 - dims)]
    return changes if all(_can_be_undone(change) for change in changes) else []


def _can_be_undone(change: Change) -> bool:
    return bool(np.isfinite(change.values).all() and (not change.is_scale or change.values.all()))


def _plans(node: ir.Node, index: int, changes: Sequence[Change]) -> list[list[Edit]]:
    """Return the edits for each change, all of them before the node or all of them behind it.

    Before it, a shift may change what a scale has changed: (w·s) + t. Behind it, where x·s + t meets w as
    x·(w·s) + w·t, no edit may build on another.

    Raises:
        Refused: something absorbs none of it, or would have to absorb it twice.
    """
    before = [plan for each in changes if (plan := upstream(node, index, each)) is not None]
    if len(before) == len(changes) and all(_are_apart(plan) for plan in before):
        return before
    graph, y = node.graph, node.outputs[0]
    behind = [plan for each in changes if (plan := downstream(y, each, graph)) is not None]
    if len(behind) == len(changes) and _are_apart([edit for plan in behind for edit in plan]):
        return behind
    raise Refused(_OUT_OF_REACH)


def _are_apart(edits: Sequence[Edit]) -> bool:
    return len({(edit.node, edit.slot) for edit in edits}) == len(edits)


def _computed(
    plans: Sequence[Sequence[Edit]], changes: Sequence[Change]
) -> dict[tuple[ir.Node, int], Array | Late]:
    """Return the new constants by their places.

    Raises:
        Refused: a new constant does not fit its dtype.
    """
    exact: dict[tuple[ir.Node, int], Vector] = {}
    new: dict[tuple[ir.Node, int], Array | Late] = {}
    for plan, change in zip(plans, changes, strict=True):
        for node, slot, compute in plan:
            old, place = input_of(node, slot), (node, slot)
            if (
                old is not None
                and change.is_scale
                and (late := scaled_late(old, change, compute)) is not None
            ):
                new[place] = late
                continue
            like = old if old is not None else node.inputs[1]
            assert like is not None
            if place not in exact:
                exact[place] = np.zeros(()) if old is None else array_of(old).astype(np.float64)
            exact[place] = compute(exact[place])
            narrow = cast_weights if change.is_scale else cast_finite
            new[place] = narrow(exact[place], constant_tensor(like).dtype.numpy())
    return new


def _set(node: ir.Node, slot: int, data: Array | Late, names: Names) -> None:
    old = input_of(node, slot)
    base = (old.name if old is not None else None) or f"{node.outputs[0].name}/constant"
    name = names.fresh(base if old is None else f"{base}_folded".replace("_folded_folded", "_folded"))
    tensor = data.tensor if isinstance(data, Late) else ir.Tensor(contiguous(data), name=name)
    tensor.name = name
    value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=tensor.shape)
    if isinstance(data, Late):
        data.remember(value)
    assert isinstance(node.graph, ir.Graph)
    node.graph.register_initializer(value)
    if slot >= len(node.inputs):
        node.resize_inputs(slot + 1)
    node.replace_input_with(slot, value)


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
