"""Lay data out so that the fewest elements are transposed: Transposes move through operators and cancel.

x ─ Transpose ─ Relu ─ Add(c) ─ Transpose⁻¹ ─ y     ⇒   x ─ Relu ─ Add(c') ─ y
x ─ Transpose([0, 2, 3, 1]) ─ ReduceMean([1, 2])    ⇒   x ─ ReduceMean([2, 3])

Each Transpose offers another layout to the operators around it that work in any (`_layout.py`). Which of them
take it is a minimum cut: a value costs its elements wherever a Transpose must stand between its producer and
its users, and nothing where both sides have the same layout. Operators change only if that is cheaper than
before and needs no more Transposes, so that the moves come to an end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx_ir as ir

from fuseonnx.analysis.mincut import SINK, SOURCE, UNBOUNDED, Network
from fuseonnx.core.builder import Builder, Names
from fuseonnx.core.constants import array_of, is_const
from fuseonnx.core.graph import places, remove_if_dead
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._dims import derived_dims
from fuseonnx.passes._flip import (
    Flip,
    Perm,
    compose,
    inverse,
    is_identity,
    moves_only_units,
    permuted,
    volume,
)
from fuseonnx.passes._layout import flip

_NAME = "sink_transposes"
_MAX_NODES = 1000
_MAX_SWEEPS = 100
_OVERHEAD = 1000
"""Starting a Transpose takes about as long as it takes to move this many elements."""


def run(model: ir.Model, journal: Journal) -> None:
    """Change layouts as long as that makes the Transposes cheaper."""
    names = Names(model)
    for graph, opset, constant_nodes in places(model):
        for _ in range(_MAX_SWEEPS):
            if not _sweep(graph, opset, names, journal, constant_nodes=constant_nodes):
                break


def _sweep(graph: ir.Graph, opset: int, names: Names, journal: Journal, *, constant_nodes: bool) -> bool:
    changed = False
    seen: set[tuple[ir.Value, Perm]] = set()
    for node in [node for node in graph if node.op_type == "Transpose"]:
        for value, perm in _sides(node) if node.graph is graph else ():
            if (value, perm) in seen:
                continue
            region = _grow(value, perm, graph, opset)
            seen.update(region.perms.items())
            flipped = _cheapest(region)
            at = node.outputs[0].name or ""
            if flipped and journal.admits(_NAME, at):
                _apply(region, flipped, names, constant_nodes=constant_nodes)
                journal.record(_NAME, at)
                changed = True
                seen.clear()
                break
    return changed


def _perm(node: ir.Node | None) -> Perm | None:
    """Return the perm of a Transpose that moves an axis, if it is known."""
    if node is None or node.op_type != "Transpose" or node.domain or node.device_configurations:
        return None
    attribute, data = node.attributes.get("perm"), node.inputs[0]
    if attribute is not None:
        perm = () if attribute.is_ref() else tuple(attribute.as_ints())
    else:
        perm = () if data is None or data.shape is None else tuple(range(data.shape.rank()))[::-1]
    return None if is_identity(perm) else perm


def _sides(node: ir.Node) -> Iterator[tuple[ir.Value, Perm]]:
    """Yield the values that a Transpose joins, each with its perm in the layout of the other."""
    perm, data = _perm(node), node.inputs[0]
    if perm is not None and data is not None:
        yield node.outputs[0], perm
        yield data, inverse(perm)


@dataclass
class _Region:
    """Values that could all be in another layout, and the operators between them that work in any."""

    graph: ir.Graph
    perms: dict[ir.Value, Perm] = field(default_factory=dict)
    flips: dict[ir.Node, Flip] = field(default_factory=dict)

    def data(self, node: ir.Node) -> Iterator[ir.Value]:
        """Yield the inputs and outputs of a node of the region that have another layout, no constants."""
        for index in self.flips[node].inputs:
            value = node.inputs[index]
            if value is not None and not is_const(value):
                yield value
        yield from node.outputs


def _grow(value: ir.Value, perm: Perm, graph: ir.Graph, opset: int) -> _Region:
    region = _Region(graph, {value: perm})
    pending = [value]
    while pending:
        value = pending.pop()
        if is_identity(region.perms[value]):
            continue
        producer = value.producer()
        for node in (producer, *value.consumers()):
            if node is None or node.graph is not graph or node in region.flips:
                continue
            found = flip(node, value, region.perms[value], opset)
            if found is None or len(region.flips) >= _MAX_NODES:
                continue
            perms = _perms_of(node, found)
            if any(region.perms.get(each, known) != known for each, known in perms.items()):
                continue
            if any(_meets_itself(each, region.perms | perms) for each in perms):
                continue
            region.flips[node] = found
            pending.extend(each for each in perms if each not in region.perms)
            region.perms.update(perms)
    return region


def _perms_of(node: ir.Node, found: Flip) -> dict[ir.Value, Perm]:
    perms = dict.fromkeys(node.outputs, found.output)
    for index, perm in found.inputs.items():
        value = node.inputs[index]
        if value is not None and not is_const(value):
            perms[value] = perm
    return perms


def _meets_itself(value: ir.Value, perms: dict[ir.Value, Perm]) -> bool:
    """Whether a Transpose joins a value with another that has two layouts, so that it would have three."""
    producer = value.producer()
    if producer is not None and _perm(producer) is not None and producer.inputs[0] in perms:
        return True
    return any(_perm(user) is not None and user.outputs[0] in perms for user in value.consumers())


@dataclass(frozen=True)
class _Border:
    """Who makes and who uses a value, in which layout: a node of the region in either, the others in one."""

    maker: ir.Node | None
    made_old: bool
    made_new: bool
    users: tuple[ir.Node, ...]
    used_old: bool
    used_new: bool

    def transposes(self, flipped: set[ir.Node]) -> int:
        """Return how many Transposes the value needs if these nodes are in the new layout."""
        new = self.maker in flipped if self.maker else self.made_new
        old = self.maker not in flipped if self.maker else self.made_old
        to_old = self.used_old or any(user not in flipped for user in self.users)
        to_new = self.used_new or any(user in flipped for user in self.users)
        return (new and to_old) + (old and to_new)


def _border(value: ir.Value, region: _Region) -> _Border:
    perm, producer = region.perms[value], value.producer()
    above = _perm(producer) if producer is not None and producer.graph is region.graph else None
    maker = producer if producer in region.flips else None
    users: dict[ir.Node, None] = {}
    used_old, used_new = value.is_graph_output(), False
    for user in value.consumers():
        if user in region.flips and value in region.data(user):
            users[user] = None
            continue
        below = _perm(user) if user.graph is region.graph and above is None else None
        used_new |= below == inverse(perm)
        used_old |= below is None
    return _Border(maker, above != perm, above is not None, tuple(users), used_old, used_new)


def _cheapest(region: _Region) -> set[ir.Node]:
    """Return the nodes that are to be in the new layout: none, unless that is cheaper."""
    network = Network()
    borders = []
    for value, perm in region.perms.items():
        if not is_identity(perm):
            borders.append(_border(value, region))
            _join(network, value, perm, borders[-1])
    for node, found in region.flips.items():
        if found.penalty > 0:
            network.join(node, SINK, found.penalty)
        elif found.penalty < 0:
            network.join(SOURCE, node, -found.penalty)
    flipped = network.source_side() & region.flips.keys()
    nodes = {node for node in region.flips if node in flipped}
    before, after = (sum(border.transposes(each) for border in borders) for each in (set[ir.Node](), nodes))
    return nodes if after <= before else set()


def _join(network: Network, value: ir.Value, perm: Perm, border: _Border) -> None:
    """Add the two Transposes that a value may need: old after a new producer, new after an old one."""
    dims = derived_dims(value) or [None] * len(perm)
    cost = _OVERHEAD + (0 if moves_only_units(dims, inverse(perm)) else volume(dims))
    to_old, to_new = ("to old", value), ("to new", value)
    if border.maker or border.made_new:
        network.join(border.maker or SOURCE, to_old, cost)
    if border.maker or border.made_old:
        network.join(to_new, border.maker or SINK, cost)
    for user in border.users:
        network.join(to_old, user, UNBOUNDED)
        network.join(user, to_new, UNBOUNDED)
    if border.used_old:
        network.join(to_old, SINK, UNBOUNDED)
    if border.used_new:
        network.join(SOURCE, to_new, UNBOUNDED)


def _apply(region: _Region, flipped: set[ir.Node], names: Names, *, constant_nodes: bool) -> None:
    """Bring the operators into the new layout, in their order, and put Transposes where layouts meet."""
    others: dict[tuple[ir.Value, Perm], ir.Value] = {}
    sources: dict[ir.Node, None] = {}
    graph = region.graph
    for node in [node for node in graph if node in flipped]:
        builder = Builder(node, names, constant_nodes=constant_nodes)
        found = region.flips[node]
        for index, perm in found.inputs.items():
            value = node.inputs[index]
            if value is None or value.producer() in flipped or is_identity(perm):
                continue
            sources.update(dict.fromkeys(filter(None, [value.producer()])))
            if (value, perm) not in others:
                others[value, perm] = _other(value, perm, graph, builder)
            node.replace_input_with(index, others[value, perm])
        for index, data in found.parameters.items():
            node.replace_input_with(index, builder.const(data, node.inputs[index]))
        for name, attribute in found.attributes.items():
            node.attributes[name] = ir.convenience.convert_attribute(name, attribute)
        for value in builder.initializers:
            graph.register_initializer(value)
        graph.insert_before(node, builder.nodes)
    for node in [node for node in graph if node in flipped]:
        for output in node.outputs:
            if not is_identity(region.perms[output]):
                _turn(output, node, region, flipped, names)
    for node in sources:
        remove_if_dead(node, {})


def _other(value: ir.Value, perm: Perm, graph: ir.Graph, builder: Builder) -> ir.Value:
    """Return v' of a value v = Transpose(v', perm) that its producer leaves as it is."""
    if is_const(value):
        return builder.const(permuted(array_of(value), perm), value)
    producer = value.producer()
    above = _perm(producer)
    if producer is None or producer.inputs[0] is None or above is None:
        return _existing(value, inverse(perm), graph) or _transpose(value, inverse(perm), builder)
    data = producer.inputs[0]
    if data.shape is None:
        data.shape = _seen_through(value.shape, inverse(above))
    return data if above == perm else _transpose(data, compose(above, inverse(perm)), builder)


def _existing(value: ir.Value, perm: Perm, graph: ir.Graph) -> ir.Value | None:
    """Return the result of a Transpose of the value that is there already, and bring it to the value."""
    for user in value.consumers():
        if user.graph is graph and _perm(user) == perm:
            producer = value.producer()
            graph.remove(user)
            if producer is not None and producer.graph is graph:
                graph.insert_after(producer, user)
            else:
                graph.insert_before(graph[0], user)
            return user.outputs[0]
    return None


def _transpose(data: ir.Value, perm: Perm, builder: Builder) -> ir.Value:
    result = builder.op("Transpose", data, attributes={"perm": perm})
    result.type, result.shape = data.type, _seen_through(data.shape, perm)
    return result


def _seen_through(shape: ir.Shape | None, perm: Perm) -> ir.Shape | None:
    return None if shape is None else ir.Shape([shape[axis] for axis in perm])


def _turn(value: ir.Value, node: ir.Node, region: _Region, flipped: set[ir.Node], names: Names) -> None:
    """Let the users of v, which its producer now gives as v', read what they need."""
    perm, graph, name = region.perms[value], region.graph, value.name
    value.shape = _seen_through(value.shape, inverse(perm))
    value.meta.clear()  # what was worked out about v
    old = []
    for user, index in list(value.uses()):
        below = _perm(user) if user.graph is graph else None
        if below is not None:
            user.attributes["perm"] = ir.AttrInt64s("perm", compose(perm, below))
        elif user not in flipped or index not in region.flips[user].inputs:
            old.append((user, index))
    if name:  # it is the name of v, with which the file may declare a shape
        value.name = names.fresh(name)
    if not old and not value.is_graph_output():
        return
    builder = Builder(node, names, constant_nodes=False)
    result = _transpose(value, perm, builder)
    for user, index in old:
        user.replace_input_with(index, result)
    for index, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[index] = result
    result.name = name
    graph.insert_after(node, builder.nodes)


RULE = GraphPass(_NAME, run)
