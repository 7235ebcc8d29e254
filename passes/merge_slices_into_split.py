"""Split a value once instead of taking its parts one by one.

x: float[n, 4] ─┬─ Slice([:1], axis 1)        x ─ Split([1, 3], axis 1) ─┬─
                └─ Slice([1:], axis 1)   ⇒                               └─

The parts cover the axis, whose size is known, without a gap or an overlap. What a Gather takes is a part too,
if its indices are neighbours, as in Gather([2, 3], axis 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Attributes, Builder, Names
from fuseonnx.core.constants import array_of, is_const
from fuseonnx.core.graph import detach, places
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._chains import AXES_ARE_INPUTS, int64s
from fuseonnx.passes._dims import known_dims
from fuseonnx.passes._sameness import replace_value
from fuseonnx.passes.merge_slices import Cut, read_cuts

_NAME = "merge_slices_into_split"


class Part(NamedTuple):
    """What a Slice or a Gather takes of one axis: from `start` up to `end`, none of them negative."""

    start: int
    end: int
    node: ir.Node


def run(model: ir.Model, journal: Journal) -> None:
    """Merge the Slices and Gathers of each graph that together cover an axis of one value."""
    names = Names(model)
    for graph, opset, constant_nodes in places(model):
        for (x, axis), parts in _by_axis(graph).items():
            at = parts[0].node.outputs[0].name or ""
            if _covers(x, axis, parts) and journal.admits(_NAME, at):
                builder = Builder(parts[0].node, names, constant_nodes=constant_nodes)
                _split(axis, parts, builder, opset)
                journal.record(_NAME, at)


def _by_axis(graph: ir.Graph) -> dict[tuple[ir.Value, int], list[Part]]:
    """Return the parts that are taken of each value along each axis, in the order of the graph."""
    found: dict[tuple[ir.Value, int], list[Part]] = {}
    for node in graph:
        x = node.inputs[0] if node.op_type in {"Slice", "Gather"} and not node.domain else None
        dims = known_dims(x) if x is not None else None
        if x is None or dims is None or len(x.uses()) < 2 or node.device_configurations:
            continue
        cuts = read_cuts(node, len(dims)) if node.op_type == "Slice" else _gathered(node, dims)
        if cuts is None or len(cuts) != 1:
            continue
        ((axis, cut),) = cuts.items()
        size = dims[axis]
        if size is not None and cut[2] == 1:
            start, end, _step = slice(*cut).indices(size)
            found.setdefault((x, axis), []).append(Part(start, end, node))
    return found


def _gathered(node: ir.Node, dims: Sequence[int | None]) -> dict[int, Cut] | None:
    """Return what a Gather of a constant list of neighbours takes; None of texts, which it mangles."""
    x, indices = node.inputs
    axis = node.attributes.get_int("axis", 0) % len(dims) if dims else 0
    size = dims[axis] if dims else None
    if x is None or x.dtype is ir.DataType.STRING:
        return None
    if size is None or indices is None or not is_const(indices) or rank(indices) != 1:
        return None
    taken = array_of(indices).astype(np.int64)
    counted = np.where(taken < 0, taken + size, taken)
    if not counted.size or counted.min() < 0 or not (np.diff(counted) == 1).all():
        return None
    return {axis: (int(counted[0]), int(counted[-1]) + 1, 1)}


def _covers(x: ir.Value, axis: int, parts: Sequence[Part]) -> bool:
    """Whether the parts, in some order, are the whole axis, and each of them is some of it."""
    ordered = sorted(parts, key=lambda part: part.start)
    ends = [0, *(part.end for part in ordered)]
    dims = known_dims(x)
    return (
        len(parts) > 1
        and dims is not None
        and ends[-1] == dims[axis]
        and all(part.start == end < part.end for part, end in zip(ordered, ends, strict=False))
    )


def _split(axis: int, parts: Sequence[Part], new: Builder, opset: int) -> None:
    ordered = sorted(parts, key=lambda part: part.start)
    sizes = [part.end - part.start for part in ordered]
    first, graph = parts[0].node, parts[0].node.graph
    x = first.inputs[0]  # which an earlier Split may have replaced
    assert graph is not None
    attributes: Attributes = {"axis": axis}
    if opset < AXES_ARE_INPUTS:
        made = new.op("Split", x, attributes={**attributes, "split": sizes}, outputs=len(parts))
    else:
        made = new.op("Split", x, int64s(new, sizes), attributes=attributes, outputs=len(parts))
    for value in new.initializers:
        graph.register_initializer(value)
    graph.insert_before(first, new.nodes)
    split = made.producer()
    assert split is not None
    for part, output in zip(ordered, split.outputs, strict=True):
        output.type, output.shape = part.node.outputs[0].type, part.node.outputs[0].shape
        split.metadata_props.update(part.node.metadata_props)
        replace_value(part.node.outputs[0], output)
        detach(part.node)


RULE = GraphPass(_NAME, run)
