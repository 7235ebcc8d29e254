"""Shared by the rewrites that look for nodes which compute the same."""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable

import onnx_ir as ir

from fuseonnx.analysis.purity import is_deterministic
from fuseonnx.core.graph import bodies_of, detach, may_hold_bodies, top_graphs
from fuseonnx.core.journal import Journal

_MAX_TENSOR_BYTES = 1 << 16


def itself(value: ir.Value | None) -> Hashable:
    """Identify an input by the value that it is."""
    return value


def node_key(node: ir.Node, identify: Callable[[ir.Value | None], Hashable] = itself) -> Hashable | None:
    """Return what makes two nodes interchangeable, or None for a node that must stay itself.

    Attributes compare bit by bit. Random operators, operators with bodies and those of other domains have no
    key. `identify` tells inputs apart.
    """
    if may_hold_bodies(node) or not is_deterministic(node) or node.device_configurations:
        return None
    attributes = []
    for name in sorted(node.attributes):
        bits = _bits(node.attributes[name])
        if bits is None:
            return None
        attributes.append((name, bits))
    present = tuple(bool(output.name) for output in node.outputs)
    return node.op_identifier(), tuple(map(identify, node.inputs)), tuple(attributes), present


def tensor_key(tensor: ir.TensorProtocol) -> Hashable | None:
    """Return what a small tensor holds, bit by bit; None for a large one, for texts, and for one to come."""
    if isinstance(tensor, ir.StringTensor | ir.LazyTensor) or tensor.nbytes > _MAX_TENSOR_BYTES:
        return None
    return tensor.dtype, tuple(tensor.shape.numpy()), tensor.tobytes()


def merge_equal_nodes(
    model: ir.Model, journal: Journal, name: str, key: Callable[[ir.Node], Hashable | None]
) -> None:
    """Merge nodes with equal keys into the first of them; bodies see what was computed before them.

    Args:
        model: the model.
        journal: admits and records the applications.
        name: of the pass.
        key: what makes two nodes interchangeable, None for a node that must stay itself.
    """
    for graph in top_graphs(model):
        _merge_in(graph, {}, journal, name, key)


def _merge_in(
    graph: ir.Graph,
    first: dict[Hashable, ir.Node],
    journal: Journal,
    name: str,
    key_of: Callable[[ir.Node], Hashable | None],
) -> None:
    own = []
    for node in graph:
        for body in bodies_of(node):
            _merge_in(body, first, journal, name, key_of)
        key = key_of(node)
        if key is None:
            continue
        kept, at = first.get(key), node.outputs[0].name or ""
        if kept is None:
            first[key] = node
            own.append(key)
        elif can_replace(node, kept) and journal.admits(name, at):
            for old, new in zip(node.outputs, kept.outputs, strict=True):
                replace_value(old, new)
            detach(node)
            journal.record(name, at)
    for key in own:
        del first[key]


def can_replace(old: ir.Node, new: ir.Node) -> bool:
    """Whether the outputs of `new` can stand in for those of `old`, which may be graph outputs."""
    return not any(
        before.is_graph_output() and (after.is_graph_output() or new.graph is not old.graph)
        for before, after in zip(old.outputs, new.outputs, strict=True)
    )


def replace_value(old: ir.Value, new: ir.Value) -> None:
    """Let the users of `old` read `new`, which takes its name if that is the name of a graph output."""
    name, takes_name = old.name, old.is_graph_output()
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    if takes_name:
        old.name = None
        new.name, new.type, new.shape = name, old.type, old.shape


def _bits(attribute: ir.Attr) -> Hashable | None:
    if attribute.is_ref():
        return "reference", attribute.ref_attr_name
    kind, value = attribute.type, attribute.value
    if kind is ir.AttributeType.FLOAT:
        return kind, struct.pack("<d", value)
    if kind is ir.AttributeType.FLOATS:
        return kind, struct.pack(f"<{len(value)}d", *value)
    if kind in (ir.AttributeType.INT, ir.AttributeType.STRING):
        return kind, value
    if kind in (ir.AttributeType.INTS, ir.AttributeType.STRINGS):
        return kind, tuple(value)
    if kind is ir.AttributeType.TENSOR:
        bits = tensor_key(value)
        return None if bits is None else (kind, bits)
    return None
