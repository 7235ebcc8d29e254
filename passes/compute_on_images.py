"""Compute on images where the rows that a Gemm takes are their pixels: it is a convolution with kernel 1.

    x ─ Transpose([0, 2, 3, 1]) ─ Reshape([-1, c]) ─ r ─ Gemm(w, b) ─ Relu ─ Gemm(w', b') ─ Add(r) ─ y
        ⇒   x ─ Conv(w, b) ─ Relu ─ Conv(w', b') ─ Add(x) ─ Transpose([0, 2, 3, 1]) ─ Reshape([-1, c']) ─ y

So LeViT computes: convolutions, then attention and layers that are Gemms. onnxruntime's blocked convolutions
take as long as Gemm, but compute the activation and the Add after them too, each of which would read and
write all data once more. Queries, keys and values, and the result of attention, lie in an image with their
positions innermost: one Transpose of three is left of each, and onnxruntime's product does it along the way.

A graph changes as a whole, if more operators come to follow convolutions than it gets new Transposes.
"""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.builder import Builder, Names
from fuseonnx.core.graph import DECLARED, places, remove_if_dead
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._images import Views

_NAME = "compute_on_images"


def run(model: ir.Model, journal: Journal) -> None:
    """Change every graph in which it pays."""
    names = Names(model)
    for graph, opset, constant_nodes in places(model):
        change = _Change(graph, Views(opset), names, constant_nodes=constant_nodes)
        if change.first is None:
            continue
        at = change.first.outputs[0].name or ""
        if not change.pays():
            journal.decline(_NAME, at, "Gemm", "too few operators would follow convolutions")
        elif journal.admits(_NAME, at):
            change.make()
            journal.record(_NAME, at)


class _Change:
    """The change of one graph, in place."""

    def __init__(self, graph: ir.Graph, views: Views, names: Names, *, constant_nodes: bool) -> None:
        self._graph, self._views, self._names = graph, views, names
        self._constant_nodes = constant_nodes
        self._nodes = {node: None for node in graph if views.read(node)}
        self._new = [node for node in self._nodes if views.of[node.outputs[0]].source.convolved]
        self.first = next((node for node in self._new if node.op_type == "Gemm"), None)

    def pays(self) -> bool:
        """Whether more operators will be part of a convolution than there are new Transposes."""
        layout = ("Gemm", "Reshape", "Slice", "Split", "Transpose")
        won = sum(node.op_type not in layout for node in self._new)
        left = [value for node in self._new for value in node.outputs if self._is_left(value)]
        return won > sum(_is_turned(value) for value in left)

    def make(self) -> None:
        """Compute the images beside the rows, let others read what they need, and drop the rows."""
        for node in self._new:
            builder = Builder(node, self._names, constant_nodes=self._constant_nodes)
            for value in node.outputs:
                self._views.of[value].source.value(builder)
                if self._is_left(value):
                    self._leave(value, builder)
            for value in builder.initializers:
                self._graph.register_initializer(value)
            self._graph.insert_before(node, builder.nodes)
        for node in reversed(self._new):
            remove_if_dead(node, {})

    def _is_left(self, value: ir.Value) -> bool:
        return value.is_graph_output() or any(user not in self._nodes for user in value.consumers())

    def _leave(self, value: ir.Value, builder: Builder) -> None:
        result = self._views.of[value].back(value, builder)
        if value.is_graph_output() and result.is_graph_output():
            result = builder.op("Identity", result)
        for user, index in list(value.uses()):
            if user not in self._nodes:
                user.replace_input_with(index, result)
        for index, output in enumerate(self._graph.outputs):
            if output is value:
                self._graph.outputs[index] = result
                self._graph.meta.get(DECLARED, {}).pop(value.name, None)
                name, value.name = value.name or "", self._names.fresh(value.name or "")
                result.name = name


def _is_turned(value: ir.Value) -> bool:
    """Whether no Transpose made it before."""
    producer = value.producer()
    return producer is None or producer.op_type != "Transpose"


RULE = GraphPass(_NAME, run)
