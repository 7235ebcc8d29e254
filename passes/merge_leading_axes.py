"""Compute on one matrix of rows instead of a stack of matrices, so that Gemm adds the bias.

    x: [b, s, c] ─ MatMul(w) ─ Add(v) ─ Relu ─ MatMul(w') ─ Add(v') ─ y
        ⇒   x ─ Reshape([-1, c]) ─ Gemm(w, v) ─ Relu ─ Gemm(w', v') ─ Reshape([-1, s, c']) ─ y

Operators that treat every row alike form a region. It changes as a whole if that leaves fewer nodes: each
MatMul and the Add after it will be one Gemm; Reshapes at the border are new, or merge with those that are
there, or vanish. onnxruntime's CPU provider takes 0.97 to 1.00 of the time of MatMul and Add between
LayerNormalization and Relu (docs/forms.md), and less where a Gelu follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir

from fuseonnx.core.builder import Builder, Names
from fuseonnx.core.constants import array_of, is_const
from fuseonnx.core.graph import DECLARED, detach, places, remove_if_dead
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._rows import (
    Exit,
    Region,
    Target,
    exits_of,
    grow,
    is_matrix_of,
    matrix_shape,
    nodes_saved,
    shape_source,
    unreshaped,
)

_NAME = "merge_leading_axes"
_ARITHMETIC_BROADCASTS = 7


def run(model: ir.Model, journal: Journal) -> None:
    """Change every region that then has fewer nodes."""
    merge(model, journal, _NAME, lambda region, exits: nodes_saved(region, exits) > 0)


def merge(model: ir.Model, journal: Journal, name: str, pays: Callable[[Region, list[Exit]], bool]) -> None:
    """Change every region for which it pays, under the name of a pass."""
    names = Names(model)
    for graph, opset, constant_nodes in places(model):
        if opset >= _ARITHMETIC_BROADCASTS:
            for region, exits, at in _regions(graph, opset):
                if pays(region, exits) and journal.admits(name, at):
                    _Change(region, graph, names, constant_nodes=constant_nodes).make(exits)
                    journal.record(name, at)


def _regions(graph: ir.Graph, opset: int) -> Iterator[tuple[Region, list[Exit], str]]:
    """Yield the regions, what leaves them, and the name of the value at which each was found."""
    seen: set[ir.Node] = set()
    order: dict[ir.Node, int] = {}
    for seed in [node for node in graph if node.op_type in ("MatMul", "LayerNormalization")]:
        region = None if seed in seen or seed.graph is not graph else grow(seed)
        if region is None:
            continue
        seen.update(region.nodes)
        order = order or {node: place for place, node in enumerate(graph)}
        region = Region(region.lead, dict(sorted(region.nodes.items(), key=lambda item: order[item[0]])))
        exits = exits_of(region, opset)
        if exits is not None:
            yield region, exits, seed.outputs[0].name or ""


class _Change:
    """The change of one region, in place."""

    def __init__(self, region: Region, graph: ir.Graph, names: Names, *, constant_nodes: bool) -> None:
        self._region, self._graph, self._names = region, graph, names
        self._constant_nodes = constant_nodes
        self._before: dict[ir.Value, ir.Shape | None] = {}
        self._computed: dict[Target, ir.Value] = {}

    def make(self, exits: list[Exit]) -> None:
        """Reshape what enters and what leaves; in between only constants, axes and shapes change."""
        entries = self._region.entries()
        self._compute_targets(exits)
        matrices: dict[ir.Value, ir.Value] = {}
        for node in self._region.nodes:
            self._enter(node, entries, matrices)
        for node in self._region.nodes:
            for value in node.outputs:
                self._flatten(value)
        for leaving in exits:
            self._leave(leaving)
        for value in entries:
            producer = value.producer()
            if producer is not None and producer.graph is self._graph:
                remove_if_dead(producer, {})

    def _compute_targets(self, exits: list[Exit]) -> None:
        """Compute, before the region, each target that begins with the leading dims."""
        targets = {target for each in exits for target in each.targets() if target.computed}
        source = shape_source(self._region)
        if not targets or source is None:
            return
        first = next(iter(self._region.nodes))
        builder = self._builder(first)
        lead = builder.op("Shape", source, attributes={"end": len(self._region.lead)})
        lead.type = ir.TensorType(ir.DataType.INT64)
        for target in sorted(targets):
            rest = builder.const(np.array(target.dims, dtype=np.int64))
            self._computed[target] = builder.op("Concat", lead, rest, attributes={"axis": 0})
            self._computed[target].type = lead.type
        self._add(builder, before=first)

    def _enter(
        self, node: ir.Node, entries: dict[ir.Value, None], matrices: dict[ir.Value, ir.Value]
    ) -> None:
        """Let a node work on matrices."""
        builder = self._builder(node)
        for index, value in enumerate(node.inputs):
            if value is None:
                continue
            if self._region.reads(node, index):
                if value in entries:
                    if value not in matrices:
                        matrices[value] = _matrix(value, builder)
                    node.replace_input_with(index, matrices[value])
            elif is_const(value) and value.shape is not None and value.shape.rank() > 2:
                row = array_of(value)
                node.replace_input_with(index, builder.const(row.reshape(row.shape[-1:]), value))
        if "axis" in node.attributes:
            node.attributes["axis"] = ir.AttrInt64("axis", -1)
        self._add(builder, before=node)

    def _flatten(self, value: ir.Value) -> None:
        """Note the shape that a result now has; what was worked out is about the old one."""
        self._before[value] = value.shape
        value.shape = matrix_shape(value)
        value.meta.clear()
        self._graph.meta.get(DECLARED, {}).pop(value.name, None)

    def _leave(self, leaving: Exit) -> None:
        """Let those who use a result of the region, now a matrix, read what they need."""
        value, node = leaving.value, leaving.value.producer()
        assert node is not None
        builder = self._builder(node)
        for reshape, target in leaving.reshapes.items():
            if target is None:
                reshape.outputs[0].replace_all_uses_with(value)
                detach(reshape)
                continue
            reshape.replace_input_with(1, self._target(target, builder))
            reshape.attributes.clear()
            reshape.attributes.update(self._attributes(target))
        if leaving.back is not None:
            self._lead_back(leaving, builder)
        self._add(builder, after=node)

    def _lead_back(self, leaving: Exit, builder: Builder) -> None:
        value, target = leaving.value, leaving.back
        assert target is not None
        others = [use for use in value.uses() if use.node not in leaving.reshapes]
        attributes = self._attributes(target)
        stack = builder.op("Reshape", value, self._target(target, builder), attributes=attributes)
        stack.type, stack.shape = value.type, self._before[value]
        for node, index in others:
            if not self._region.reads(node, index):
                node.replace_input_with(index, stack)
        for index, output in enumerate(self._graph.outputs):
            if output is value:
                self._graph.outputs[index] = stack
        if value.name:
            value.name, stack.name = self._names.fresh(value.name), value.name

    def _target(self, target: Target, builder: Builder) -> ir.Value:
        """Return the target as a value; the leading dims are computed once."""
        if not target.computed:
            return builder.const(np.array(target.dims, dtype=np.int64))
        return self._computed[target]

    def _attributes(self, target: Target) -> dict[str, ir.Attr]:
        """Return what lets a computed dim of 0 be 0."""
        return {"allowzero": ir.AttrInt64("allowzero", 1)} if target.computed else {}

    def _builder(self, node: ir.Node) -> Builder:
        return Builder(node, self._names, constant_nodes=self._constant_nodes)

    def _add(self, builder: Builder, *, before: ir.Node | None = None, after: ir.Node | None = None) -> None:
        for value in builder.initializers:
            self._graph.register_initializer(value)
        if before is not None:
            self._graph.insert_before(before, builder.nodes)
        elif after is not None:
            self._graph.insert_after(after, builder.nodes)


def _matrix(value: ir.Value, builder: Builder) -> ir.Value:
    """Return the rows of a value as one matrix."""
    source = unreshaped(value)
    if is_matrix_of(source, value):
        return source
    shape = matrix_shape(value)
    matrix = builder.op("Reshape", source, builder.const(np.array([-1, shape[-1]], dtype=np.int64)))
    matrix.type, matrix.shape = value.type or source.type, shape
    return matrix


RULE = GraphPass(_NAME, run)
