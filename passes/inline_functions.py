"""Replace the calls of a local function by its nodes.

    f(x) = Relu(Neg(x)),  y = f(x)   ⇒   y = Relu(Neg(x))

A function that is called once always goes in; one that is called more often only if all of its calls, with
what they call in turn, come to no more than 4,096 nodes: a transformer of 40 layers, written out. What
nothing calls any more is removed with the dead nodes. onnxruntime inlines every function when it loads a
model, so the time stays; but the other rewrites get to know what goes into the nodes of each call.

Keeps out of a function that calls itself or is written for another opset than the model.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from fuseonnx.core.builder import Names
from fuseonnx.core.graph import nodes_in
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass
from fuseonnx.passes._copies import copy_of, may_copy, splice, take_out, version_of

_NAME = "inline_functions"
_MAX_NODES = 4096
_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def run(model: ir.Model, journal: Journal) -> None:
    """Inline the calls in the main graph and its bodies, then those that came in with them."""
    if model.functions:
        names = Names(model)
        while _inline_calls(model, journal, names):
            pass


def _inline_calls(model: ir.Model, journal: Journal, names: Names) -> bool:
    """Inline what is called now; return whether anything was."""
    calls: dict[ir.OperatorIdentifier, list[ir.Node]] = {}
    for node in nodes_in(model.graph):
        if node.op_identifier() in model.functions:
            calls.setdefault(node.op_identifier(), []).append(node)
    sizes: dict[ir.OperatorIdentifier, int | None] = {}
    before = len(journal.applied)
    for identifier, nodes in calls.items():
        reason = _too_much(_size(identifier, model, sizes), len(nodes))
        for node in nodes:
            at = node.outputs[0].name or ""
            why_not = reason or _misfit(node, model.functions[identifier], model)
            if why_not is not None:
                journal.decline(_NAME, at, node.op_type, why_not)
            elif journal.admits(_NAME, at):
                _inline(node, model.functions[identifier], model, names)
                journal.record(_NAME, at)
    return len(journal.applied) > before


def _size(
    identifier: ir.OperatorIdentifier, model: ir.Model, sizes: dict[ir.OperatorIdentifier, int | None]
) -> int | None:
    """Return how many nodes a call comes to with all that it calls, None if it calls itself."""
    if identifier not in sizes:
        sizes[identifier] = None
        size: int | None = 0
        for node in nodes_in(model.functions[identifier].graph):
            called = node.op_identifier()
            inner = _size(called, model, sizes) if called in model.functions else 1
            size = None if size is None or inner is None else size + inner
        sizes[identifier] = size
    return sizes[identifier]


def _too_much(size: int | None, calls: int) -> str | None:
    if size is None:
        return "the function calls itself"
    if calls > 1 and calls * size > _MAX_NODES:
        return f"its calls come to more than {_MAX_NODES:,} nodes"
    return None


def _misfit(call: ir.Node, function: ir.Function, model: ir.Model) -> str | None:
    """Return why the nodes of a function cannot stand in the place of a call."""
    for domain in _domains(function, model):
        version = version_of(model.opset_imports, domain)
        if version not in (None, version_of(function.opset_imports, domain)):
            return f"the function is written for another version of the domain '{domain or 'ai.onnx'}'"
    if any(each.type in _GRAPHS for each in (*call.attributes.values(), *function.attributes.values())):
        return "an attribute of the call is a graph"
    if len(call.inputs) > len(function.inputs) or len(call.outputs) > len(function.outputs):
        return "the call has more inputs or outputs than the function"
    if any(output in _absent(call, function) for output in function.outputs):
        return "the function passes out an input that is absent"
    if not may_copy(function.graph):
        return "a body in the function passes out a value from outside"
    return "the call has a device configuration" if call.device_configurations else None


def _domains(function: ir.Function, model: ir.Model) -> list[str]:
    """Return the domains whose operators the function uses, calls of local functions aside."""
    nodes = (node for node in nodes_in(function.graph) if node.op_identifier() not in model.functions)
    return sorted({node.domain for node in nodes})


def _absent(call: ir.Node, function: ir.Function) -> list[ir.Value]:
    given = [*call.inputs, *(None,) * (len(function.inputs) - len(call.inputs))]
    return [formal for formal, value in zip(function.inputs, given, strict=True) if value is None]


def _inline(call: ir.Node, function: ir.Function, model: ir.Model, names: Names) -> None:
    copy = copy_of(function.graph, names, f"{call.name}/" if call.name else "")
    defaults = {name: each for name, each in function.attributes.items() if each.value is not None}
    _set_parameters(copy, {**defaults, **call.attributes})
    for domain, version in function.opset_imports.items():
        if version_of(model.opset_imports, domain) is None:
            model.opset_imports[domain] = version
    given = [*call.inputs, *(None,) * (len(copy.inputs) - len(call.inputs))]
    splice(call, *take_out(copy, given))


def _set_parameters(graph: ir.Graph, given: Mapping[str, ir.Attr]) -> None:
    """Replace the attributes that are parameters by what the call gives; one that it leaves out goes."""
    for node in nodes_in(graph):
        for name, attribute in tuple(node.attributes.items()):
            if not attribute.is_ref():
                continue
            value = given.get(attribute.ref_attr_name or "")
            if value is None:
                del node.attributes[name]
            else:
                node.attributes[name] = ir.Attr(name, value.type, value.value)


RULE = GraphPass(_NAME, run)
