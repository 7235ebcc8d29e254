"""Compute once what is computed twice: nodes with the same operator, attributes and inputs.

    op(x, y) ─ a        op(x, y) ─┬ a
    op(x, y) ─ b   ⇒              └ b

Attributes compare bit by bit, so that -0.0 differs from +0.0. Random operators, operators with bodies and
those of other domains stay apart.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable

import onnx_ir as ir

from fuseonnx.analysis.purity import is_deterministic
from fuseonnx.core.graph import all_graphs, bodies_of, detach
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass

_NAME = "eliminate_common_subexpressions"
_MAX_TENSOR_BYTES = 1 << 16


def run(model: ir.Model, journal: Journal) -> None:
    """Merge equal nodes of each graph into the first of them."""
    for graph in all_graphs(model):
        first: dict[Hashable, ir.Node] = {}
        for node in graph:
            key = _key(node)
            if key is None:
                continue
            kept = first.setdefault(key, node)
            if kept is not node:
                _merge(node, kept, journal)


def _key(node: ir.Node) -> Hashable | None:
    """Return what makes two nodes interchangeable, or None for a node that must stay itself."""
    if not is_deterministic(node) or any(True for _ in bodies_of(node)) or node.device_configurations:
        return None
    attributes = []
    for name in sorted(node.attributes):
        bits = _bits(node.attributes[name])
        if bits is None:
            return None
        attributes.append((name, bits))
    present = tuple(bool(output.name) for output in node.outputs)
    return node.op_identifier(), tuple(node.inputs), tuple(attributes), present


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
    if (
        kind is ir.AttributeType.TENSOR
        and not isinstance(value, ir.StringTensor)
        and value.nbytes <= _MAX_TENSOR_BYTES
    ):
        return kind, value.dtype, tuple(value.shape.numpy()), value.tobytes()
    return None


def _merge(node: ir.Node, kept: ir.Node, journal: Journal) -> None:
    at = node.outputs[0].name or ""
    clash = any(
        old.is_graph_output() and new.is_graph_output()
        for old, new in zip(node.outputs, kept.outputs, strict=True)
    )
    if clash or not journal.admits(_NAME, at):
        return
    for old, new in zip(node.outputs, kept.outputs, strict=True):
        name, takes_name = old.name, old.is_graph_output()
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        if takes_name:
            old.name = None
            new.name, new.type, new.shape = name, old.type, old.shape
    detach(node)
    journal.record(_NAME, at)


RULE = GraphPass(_NAME, run)
