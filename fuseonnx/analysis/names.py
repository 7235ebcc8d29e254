"""Distinct names for what onnx infers shapes of.

Bodies side by side may use the same names for their own values. onnx's data propagation knows values by name
alone and mixes them up: the shape computed in one branch of an If turns up in the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableSequence

import onnx

from fuseonnx.core.graph import proto_bodies_of


def make_distinct(nodes: Iterable[onnx.NodeProto], taken: set[str]) -> None:
    """Rename, inside the bodies of `nodes`, each value whose name is taken.

    Args:
        nodes: the nodes of a graph or function; the names of their own outputs stay.
        taken: names in use so far; grows.
    """
    nodes = list(nodes)
    taken.update(name for node in nodes for name in node.output)
    for node in nodes:
        for body in proto_bodies_of(node):
            _rename(body, {}, taken)


def _rename(graph: onnx.GraphProto, outer: Mapping[str, str], taken: set[str]) -> None:
    names = dict(outer)
    for each in (*graph.input, *graph.initializer):
        each.name = names[each.name] = _fresh(each.name, taken)
    for node in graph.node:
        _substitute(node.input, names)
        for body in proto_bodies_of(node):
            _rename(body, names, taken)
        names.update({name: _fresh(name, taken) for name in node.output if name})
        _substitute(node.output, names)
    for info in (*graph.value_info, *graph.output):
        info.name = names.get(info.name, info.name)


def _substitute(names: MutableSequence[str], new: Mapping[str, str]) -> None:
    names[:] = [new.get(name, name) for name in names]


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
