"""Compute in the rank of the convolutions: Squeezes move down to the Unsqueezes that undo them.

x ─ Conv ─ Squeeze(2) ─ Add(c) ─ Relu ─ Unsqueeze(2) ─ Conv ─ y     ⇒   x ─ Conv ─ Add(c') ─ Relu ─ Conv ─ y
a ─ Conv ─ Squeeze(2) ─┬─ Add ─ Pad ─ Unsqueeze(2) ─ Conv ─ y       ⇒   a ─ Conv ─┬─ Add ─ Pad' ─ Conv ─ y
b ─ Conv ─ Squeeze(2) ─┘                                                b ─ Conv ─┘

So TensorFlow runs convolutions in one dimension: as images of height 1, of which each layer drops the height.
Operators between that look at each element alone do not mind it; then biases, Pads and activations stand next
to the convolutions that can take them in. A region of them changes if that leaves fewer nodes, or as many
where all of it comes from convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.shapes import rank
from fuseonnx.core.builder import Builder, Names
from fuseonnx.core.constants import Array, array_of, is_const
from fuseonnx.core.graph import places, remove_if_dead
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._chains import AXES_ARE_INPUTS, counted, has_input, int64s, integers

_NAME = "sink_squeezes"
_ON_FIRST_INPUT = frozenset(
    {
        *(
            "Abs",
            "Cast",
            "Celu",
            "Clip",
            "Elu",
            "Erf",
            "Exp",
            "Gelu",
            "HardSigmoid",
            "HardSwish",
            "LeakyRelu",
        ),
        *("Log", "Mish", "Neg", "Pad", "Reciprocal", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign"),
        *("Sqrt", "Tanh"),
    }
)
_ON_ALL_INPUTS = frozenset({"Add", "Concat", "Div", "Max", "Min", "Mul", "Pow", "PRelu", "Sub", "Where"})
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})


@dataclass(eq=False)
class _Region:
    """Operators whose data may have some more axes of size 1.

    Attributes:
        axes: these axes, in the rank that the data has with them.
        rank: that rank.
        sources: results of Squeezes of these axes, each with its Squeeze.
        nodes: the operators.
    """

    axes: tuple[int, ...]
    rank: int
    sources: dict[ir.Value, ir.Node]
    nodes: dict[ir.Node, None] = field(default_factory=dict)

    def values(self) -> Iterator[ir.Value]:
        """Yield what can be had with the axes."""
        yield from self.sources
        for node in self.nodes:
            yield from node.outputs

    def undoers(self, value: ir.Value) -> list[ir.Node]:
        """Return the Unsqueezes that only give a value the axes again."""
        wanted = (self.axes, self.rank)
        users = [user for user in value.consumers() if _axes(user, "Unsqueeze") == wanted]
        return [user for user in users if not user.outputs[0].is_graph_output()]

    def others(self, value: ir.Value) -> list[tuple[ir.Node, int]]:
        """Return the uses of a value that need it without the axes."""
        undoers = self.undoers(value)
        uses = [(user, index) for user, index in value.uses() if user not in self.nodes]
        return [(user, index) for user, index in uses if user not in undoers]

    def pays(self) -> bool:
        """Whether fewer nodes are left, or as many, and convolutions may take some of them in."""
        gain = sum(len(self.undoers(value)) for value in self.values())
        for value in self.values():
            stays = bool(self.others(value)) or value.is_graph_output()
            gain += -stays if value not in self.sources else not stays
        makers = [self.squeezed(value).producer() for value in self.sources]
        return gain > 0 or (gain == 0 and all(each and each.op_type in _CONVOLUTIONS for each in makers))

    def squeezed(self, value: ir.Value) -> ir.Value:
        """Return what a source is without its Squeeze, or a result as it is."""
        squeeze = self.sources.get(value)
        data = squeeze.inputs[0] if squeeze else value
        assert data is not None
        return data

    def with_axes(self, data: Array) -> Array:
        """Return a constant that broadcasts, or that is one of the data, with the axes."""
        dims = (1,) * (self.rank - len(self.axes) - data.ndim)
        return np.expand_dims(data.reshape(*dims, *data.shape), self.axes)

    def kept(self) -> list[int]:
        """Return the other axes."""
        return [axis for axis in range(self.rank) if axis not in self.axes]


def run(model: ir.Model, journal: Journal) -> None:
    """Change every region for which it pays."""
    names = Names(model)
    for graph, opset, constant_nodes in places(model):
        for region in _regions(graph) if opset >= AXES_ARE_INPUTS else ():
            at = next(iter(region.nodes)).outputs[0].name or ""
            if region.pays() and journal.admits(_NAME, at):
                _Change(region, graph, names, constant_nodes=constant_nodes).make()
                journal.record(_NAME, at)


def _axes(node: ir.Node, op_type: str) -> tuple[tuple[int, ...], int] | None:
    """Return the axes that a Squeeze drops or an Unsqueeze adds, and the rank with them, if known."""
    if node.op_type != op_type or node.domain or node.device_configurations:
        return None
    axes, data = integers(node, "axes", 1), rank(node.inputs[0])
    if not axes or data is None:
        return None
    full = data if op_type == "Squeeze" else data + len(axes)
    found = counted(axes, full)
    return None if found is None else (tuple(found), full)


def _regions(graph: ir.Graph) -> list[_Region]:
    """Return the regions of a graph: each operator of one depends on Squeezes and constants alone."""
    home: dict[ir.Value, _Region] = {}
    for node in graph:
        found = _axes(node, "Squeeze")
        if found is not None and len(found[0]) < found[1]:
            home[node.outputs[0]] = _Region(*found, sources={node.outputs[0]: node})
            continue
        needed = [value for value in _data(node) if not is_const(value)]
        if needed and all(value in home for value in needed):
            regions = list(dict.fromkeys(home[value] for value in needed))
            if len({(each.axes, each.rank) for each in regions}) == 1 and _fits(node, regions[0]):
                region = _merged(regions, home)
                region.nodes[node] = None
                home[node.outputs[0]] = region
    return [region for region in dict.fromkeys(home.values()) if region.nodes]


def _merged(regions: Sequence[_Region], home: dict[ir.Value, _Region]) -> _Region:
    first, *others = regions
    for other in others:
        home.update(dict.fromkeys(other.values(), first))
        first.sources.update(other.sources)
        first.nodes.update(other.nodes)
    return first


def _data(node: ir.Node) -> list[ir.Value]:
    """Return the inputs of an operator that may have more axes, if it is one of those that do not mind."""
    if node.domain or node.device_configurations:
        return []
    if node.op_type in _ON_FIRST_INPUT:
        return [value for value in node.inputs[:1] if value is not None]
    return [value for value in node.inputs if value is not None] if node.op_type in _ON_ALL_INPUTS else []


def _fits(node: ir.Node, region: _Region) -> bool:
    """Whether the constants of an operator can have the axes too."""
    before = region.rank - len(region.axes)
    if node.op_type == "Pad":
        mode = node.attributes.get("mode")
        is_plain = mode is None or (not mode.is_ref() and mode.as_string() == "constant")
        return is_plain and integers(node, "pads", 1) is not None and not has_input(node, 3)
    ranks = [rank(value) for value in _data(node) if is_const(value)]
    if node.op_type == "Concat":
        return not node.attributes["axis"].is_ref() and all(each == before for each in ranks)
    return all(each is not None and each <= before for each in ranks)


class _Change:
    """The change of one region, in place."""

    def __init__(self, region: _Region, graph: ir.Graph, names: Names, *, constant_nodes: bool) -> None:
        self._region, self._graph, self._names = region, graph, names
        self._constant_nodes = constant_nodes

    def make(self) -> None:
        """Let each operator work on data with the axes; drop them behind it where others need it without."""
        region = self._region
        undoers = {value: region.undoers(value) for value in region.values()}
        others = {value: region.others(value) for value in region.values()}
        nodes = [node for node in self._graph if node in region.nodes]
        for node in nodes:
            self._enter(node)
        for node in nodes:
            self._leave(node, others[node.outputs[0]])
        for value, unsqueezes in undoers.items():
            for node in unsqueezes:
                node.outputs[0].replace_all_uses_with(region.squeezed(value))
                remove_if_dead(node, {})
        for squeeze in region.sources.values():
            remove_if_dead(squeeze, {})

    def _enter(self, node: ir.Node) -> None:
        region, builder = self._region, self._builder(node)
        data = _data(node)
        for index, value in enumerate(node.inputs[: len(data)]):
            if value in region.sources:
                node.replace_input_with(index, region.squeezed(value))
            elif value is not None and is_const(value):
                node.replace_input_with(index, builder.const(region.with_axes(array_of(value)), value))
        if node.op_type == "Pad":
            pads = np.zeros((2, region.rank), np.int64)
            pads[:, region.kept()] = np.reshape(integers(node, "pads", 1) or (), (2, -1))
            node.replace_input_with(1, int64s(builder, pads.reshape(-1).tolist()))
        elif node.op_type == "Concat":
            axis = region.kept()[node.attributes["axis"].as_int()]
            node.attributes["axis"] = ir.AttrInt64("axis", axis)
        self._add(builder)
        self._graph.insert_before(node, builder.nodes)

    def _leave(self, node: ir.Node, others: Sequence[tuple[ir.Node, int]]) -> None:
        value, builder = node.outputs[0], self._builder(node)
        name, shape = value.name, value.shape
        if shape is not None:
            dims = iter(shape)
            value.shape = ir.Shape(
                [1 if axis in self._region.axes else next(dims) for axis in range(self._region.rank)]
            )
        value.meta.clear()  # what was worked out about it without the axes
        value.name = self._names.fresh(name or _NAME)  # the file may declare a shape for its name
        if not others and not value.is_graph_output():
            return
        result = builder.op("Squeeze", value, int64s(builder, self._region.axes))
        result.type, result.shape = value.type, shape
        for user, index in others:
            user.replace_input_with(index, result)
        for index, output in enumerate(self._graph.outputs):
            if output is value:
                self._graph.outputs[index] = result
        result.name = name
        self._add(builder)
        self._graph.insert_after(node, builder.nodes)

    def _builder(self, node: ir.Node) -> Builder:
        return Builder(node, self._names, constant_nodes=self._constant_nodes)

    def _add(self, builder: Builder) -> None:
        for value in builder.initializers:
            self._graph.register_initializer(value)


RULE = GraphPass(_NAME, run)
