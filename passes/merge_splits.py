"""Split at once what is split in steps along one axis.

x ─ Split([8, 24]) ─┬─ Split([4, 4]) ─┬─        x ─ Split([4, 4, 24]) ─┬─
                    │                 └─   ⇒                           ├─
                    └─                                                 └─

So GPT-NeoX takes queries, keys and values, and of the first two what its rotary embedding turns. Nothing else
reads the part between, which is no longer copied twice.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Attributes, Builder, Names
from fuseonnx.core.graph import detach, places
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._chains import AXES_ARE_INPUTS, int64s
from fuseonnx.passes._dims import known_dims
from fuseonnx.passes._sameness import replace_value

_NAME = "merge_splits"


def run(model: ir.Model, journal: Journal) -> None:
    """Merge each Split into the one before it."""
    names = Names(model)
    for graph, opset, constant_nodes in places(model):
        for node in [node for node in graph if node.op_type == "Split"]:
            outer, at = _split_before(node), node.outputs[0].name or ""
            if outer is None or not journal.admits(_NAME, at):
                continue
            _merge(outer, node, Builder(outer, names, constant_nodes=constant_nodes), opset)
            journal.record(_NAME, at)


def _split_before(node: ir.Node) -> ir.Node | None:
    """Return the Split along the same axis whose part a Split alone reads; None unless sizes are known."""
    part = node.inputs[0]
    outer = part.producer() if part is not None else None
    if part is None or outer is None or outer.op_type != "Split" or outer.graph is not node.graph:
        return None
    if part.is_graph_output() or len(part.uses()) != 1 or _axis(node) is None or _axis(node) != _axis(outer):
        return None
    if any(each.domain or each.device_configurations for each in (node, outer)):
        return None
    return None if None in _sizes([*outer.outputs, *node.outputs], _axis(node)) else outer


def _axis(node: ir.Node) -> int | None:
    axes, axis = rank(node.inputs[0]), node.attributes.get("axis")
    if not axes or (axis is not None and axis.is_ref()):
        return None
    return (0 if axis is None else axis.as_int()) % axes


def _sizes(values: list[ir.Value], axis: int | None) -> list[int | None]:
    dims = [known_dims(value) for value in values]
    return [None if each is None or axis is None else each[axis] for each in dims]


def _merge(outer: ir.Node, inner: ir.Node, new: Builder, opset: int) -> None:
    graph, axis = outer.graph, _axis(outer)
    assert graph is not None and axis is not None
    old = [*_flattened(outer, inner)]
    sizes = [size for size in _sizes(old, axis) if size is not None]
    attributes: Attributes = {"axis": axis}
    if opset < AXES_ARE_INPUTS:
        made = new.op("Split", outer.inputs[0], attributes={**attributes, "split": sizes}, outputs=len(old))
    else:
        made = new.op("Split", outer.inputs[0], int64s(new, sizes), attributes=attributes, outputs=len(old))
    for value in new.initializers:
        graph.register_initializer(value)
    graph.insert_before(outer, new.nodes)
    split = made.producer()
    assert split is not None
    split.metadata_props.update({**outer.metadata_props, **inner.metadata_props})
    for before, after in zip(old, split.outputs, strict=True):
        after.type, after.shape = before.type, before.shape
        replace_value(before, after)
    detach(inner)
    detach(outer)


def _flattened(outer: ir.Node, inner: ir.Node) -> Iterator[ir.Value]:
    """Yield the parts of both, in the order in which they lie along the axis."""
    for part in outer.outputs:
        if part is inner.inputs[0]:
            yield from inner.outputs
        else:
            yield part


RULE = GraphPass(_NAME, run)
