"""Compute before an If what both of its branches compute.

If(c, [r = Relu(x), Exp(r)], [r = Relu(x), Neg(r)])   ⇒   r = Relu(x), If(c, [Exp(r)], [Neg(r)])

Constants of the two branches that hold the same bits count as the same input. A result that both branches
pass out at the same place no longer goes through the If; an If whose branches are the same disappears.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import onnx_ir as ir

from fuseonnx.core.builder import Names
from fuseonnx.core.constants import array_of, constant_tensor, is_const
from fuseonnx.core.graph import detach, nodes_in
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._ifs import branches_of, is_if, take_unshared_names, without_outputs
from fuseonnx.passes._sameness import node_key, replace_value, tensor_key

_NAME = "hoist_common_if_nodes"


def run(model: ir.Model, journal: Journal) -> None:
    """Visit each If of the main graph and of the bodies in it, the inner ones first."""
    names = Names(model)
    for node in reversed([node for node in nodes_in(model.graph) if is_if(node)]):
        _hoist_from(node, journal, names)


def _hoist_from(node: ir.Node, journal: Journal, names: Names) -> None:
    """Take out what the branches have in common, each node after those that it reads."""
    first, second = branches_of(node)
    others: dict[Hashable, ir.Node] = {}
    _note(second, second, others)
    for kept in list(first):
        other = others.get(_key(kept, first))
        at = kept.outputs[0].name or ""
        if other is None or _places(kept, first) != _places(other, second) or not journal.admits(_NAME, at):
            continue
        users = [user for value in other.outputs for user in value.consumers()]
        node = _hoist(node, kept, other, names)
        _note(users, second, others)
        journal.record(_NAME, at)
    if not node.outputs:
        detach(node)


def _note(nodes: Iterable[ir.Node], branch: ir.Graph, by_key: dict[Hashable, ir.Node]) -> None:
    for node in nodes:
        key = _key(node, branch) if node.graph is branch else None
        if key is not None:
            by_key.setdefault(key, node)


def _key(node: ir.Node, branch: ir.Graph) -> Hashable | None:
    """Return the key of a node that reads only outer values and constants, else None."""
    for value in node.inputs:
        if value is not None and not _is_outer(value, branch) and _constant_key(value) is None:
            return None
    return node_key(node, lambda value: value if _is_outer(value, branch) else _constant_key(value))


def _is_outer(value: ir.Value | None, branch: ir.Graph) -> bool:
    if value is None:
        return True
    node = value.producer()
    return value.graph is not branch if node is None else node.graph is not branch


def _constant_key(value: ir.Value | None) -> Hashable | None:
    if value is None or value.producer() is not None or not is_const(value):
        return None
    return tensor_key(constant_tensor(value))


def _places(node: ir.Node, branch: ir.Graph) -> list[int | None]:
    """Return, for each output of a node, where it stands among the outputs of the branch, if it does."""
    places = {value: index for index, value in enumerate(branch.outputs)}
    return [places.get(output) for output in node.outputs]


def _hoist(node: ir.Node, kept: ir.Node, other: ir.Node, names: Names) -> ir.Node:
    """Move `kept` before the If in place of both nodes; return the If, which may be a new one."""
    first, graph = branches_of(node)[0], node.graph
    assert graph is not None
    places = zip(_places(kept, first), kept.outputs, strict=True)
    passed = {index: value for index, value in places if index is not None}
    left = without_outputs(node, passed)
    for old, new in zip(other.outputs, kept.outputs, strict=True):
        old.replace_all_uses_with(new)
    detach(other)
    first.remove(kept)
    graph.insert_before(left, kept)
    take_unshared_names(kept, names)
    _take_constants_along(kept, first, graph, names)
    for index, value in passed.items():
        replace_value(node.outputs[index], value)
    return left


def _take_constants_along(node: ir.Node, branch: ir.Graph, graph: ir.Graph, names: Names) -> None:
    """Give a node that has left a branch its own copy of each constant that it read there."""
    for index, value in enumerate(node.inputs):
        if value is None or value.graph is not branch:
            continue
        name = names.fresh(value.name or "")
        tensor = ir.Tensor(array_of(value), name=name)
        copy = ir.Value(name=name, type=value.type, shape=value.shape, const_value=tensor)
        graph.register_initializer(copy)
        node.replace_input_with(index, copy)


RULE = GraphPass(_NAME, run)
