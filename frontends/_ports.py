"""Names of a model's inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from fuseonnx.errors import OptionError


def name_ports(graph: ir.Graph, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Rename the inputs and outputs of a graph, in order; an empty sequence keeps what is there.

    A value inside that has one of the names gets another. An output that is an input too, or is listed twice,
    gets an Identity of its own.

    Raises:
        OptionError: another number of names than of values, or a name is given twice.
    """
    inputs = list(inputs) or [value.name or "" for value in graph.inputs]
    outputs = list(outputs) or [value.name or "" for value in graph.outputs]
    for what, names, values in (("input", inputs, graph.inputs), ("output", outputs, graph.outputs)):
        if len(names) != len(values):
            raise OptionError(f"{len(names)} {what} names are given, the model has {len(values)} {what}s")
    names = [*inputs, *outputs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise OptionError(f"two inputs or outputs would be called '{twice}'; name them apart")
    _separate_outputs(graph)
    _make_room(graph, set(names))
    for value, name in zip([*graph.inputs, *graph.outputs], names, strict=True):
        value.name = name


def _separate_outputs(graph: ir.Graph) -> None:
    """Give each output a value of its own that a node computes."""
    seen: set[ir.Value] = set()
    for index, value in enumerate(graph.outputs):
        if value.producer() is None or value in seen:
            node = ir.node("Identity", [value])
            node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
            graph.append(node)
            graph.outputs[index] = node.outputs[0]
        seen.add(graph.outputs[index])


def _make_room(graph: ir.Graph, names: set[str]) -> None:
    """Rename, in the graph and the bodies in it, whatever bears one of `names`."""
    values = [*graph.inputs, *graph.initializers.values()]
    for node in graph.all_nodes():
        values += node.outputs
        for attribute in node.attributes.values():
            for body in (
                attribute.as_graphs()
                if attribute.type is ir.AttributeType.GRAPHS
                else ([attribute.as_graph()] if attribute.type is ir.AttributeType.GRAPH else [])
            ):
                values += [*body.inputs, *body.initializers.values()]
    taken = names | {value.name for value in values if value.name}
    for value in values:
        if value.name in names:
            number = next(n for n in range(1, len(taken) + 2) if f"{value.name}_{n}" not in taken)
            fresh = f"{value.name}_{number}"
            taken.add(fresh)
            value.name = fresh
