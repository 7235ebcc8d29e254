"""Shared by the passes that put the nodes of a body, or of a local function, in the place of a node."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from fuseonnx.core.builder import Names
from fuseonnx.core.graph import DECLARED, detach, graphs_in
from fuseonnx.passes._ifs import stand_in


def version_of(imports: Mapping[str, int], domain: str) -> int | None:
    """Return the imported version of a domain, None if it is not imported."""
    spellings = ("", "ai.onnx") if domain in ("", "ai.onnx") else (domain,)
    return next((imports[each] for each in spellings if each in imports), None)


def may_copy(graph: ir.Graph) -> bool:
    """Whether each body in `graph` passes out only what is defined inside of `graph`."""
    inside = set(graphs_in(graph))
    return all(value.graph in inside for body in inside - {graph} for value in body.outputs)


def copy_of(graph: ir.Graph, names: Names, prefix: str = "") -> ir.Graph:
    """Return a copy of a graph in which every name is fresh and begins with `prefix`.

    Of its values only the types and the dims that are numbers are known: a symbol may mean another size in
    each copy.
    """
    new = graph.clone(allow_outer_scope_values=True)
    for inner in graphs_in(new):
        declared, renamed = inner.meta.get(DECLARED, {}), {}
        for value in _values_of(inner):
            if value.name:
                old = value.name
                _disown(value)
                value.name = names.fresh(prefix + old)
                if old in declared:
                    renamed[value.name] = declared[old]
        for node in inner:
            node.name = names.fresh(prefix + node.name) if node.name else node.name
            _own_tensors(node)
        inner.meta[DECLARED] = renamed
    return new


def take_out(
    graph: ir.Graph, given: Sequence[ir.Value | None]
) -> tuple[list[ir.Node], list[ir.Value | None]]:
    """Take the nodes out of a graph, whose inputs become `given`; return them and the graph's results."""
    actual: Mapping[ir.Value | None, ir.Value | None] = dict(zip(graph.inputs, given, strict=True))
    results = [actual.get(value, value) for value in graph.outputs]
    graph.outputs.clear()
    for formal in graph.inputs:
        for user, index in formal.uses():
            user.replace_input_with(index, actual[formal])
    nodes = list(graph)
    graph.remove(nodes)
    return nodes, results


def splice(node: ir.Node, nodes: Sequence[ir.Node], results: Sequence[ir.Value | None]) -> None:
    """Put `nodes` in the place of `node`, with its metadata, and `results` in that of its outputs.

    A result that `nodes` do not compute, or the second of two that are the same, goes through Identity.
    """
    graph = node.graph
    assert graph is not None
    for each in nodes:
        each.metadata_props.update({**node.metadata_props, **each.metadata_props})
        each.doc_string = each.doc_string or node.doc_string
    graph.insert_before(node, nodes)
    nameless = {output for each in nodes for output in each.outputs}
    for old, new in zip(node.outputs, results, strict=False):
        if new is not None and new in nameless:
            nameless.remove(new)
            stand_in(new, old)
        elif old.uses() or old.is_graph_output():
            passed = ir.Node("", "Identity", (new,), name=f"{old.name}/Identity")
            graph.insert_before(node, passed)
            stand_in(passed.outputs[0], old)
    detach(node)


def _values_of(graph: ir.Graph) -> list[ir.Value]:
    initializers = [value for value in graph.initializers.values() if not value.is_graph_input()]
    return [*graph.inputs, *initializers, *(value for node in graph for value in node.outputs)]


def _disown(value: ir.Value) -> None:
    """Let go of what a copied value shares with the original, or holds of it alone."""
    value.meta.clear()
    if value.const_value is not None:
        value.const_value = _own(value.const_value)
    if value.shape is not None:
        value.shape = ir.Shape([dim if isinstance(dim, int) else None for dim in value.shape])


def _own_tensors(node: ir.Node) -> None:
    """Give a Constant its own tensor, which gets a name when it becomes an initializer."""
    for name, attribute in tuple(node.attributes.items()):
        if attribute.type is ir.AttributeType.TENSOR and not attribute.is_ref():
            node.attributes[name] = ir.AttrTensor(name, _own(attribute.as_tensor()))


def _own(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """Return a tensor with a name of its own that shares the data."""
    if isinstance(tensor, ir.TensorProtoTensor):
        return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)
    return copy.copy(tensor)
