"""Shared by the rewrites of If: its branches, and how a branch is chosen for good."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import onnx_ir as ir

from fuseonnx.core.builder import Names
from fuseonnx.core.graph import bodies_of, detach, nodes_in, top_graphs


def ifs_in(model: ir.Model) -> list[ir.Node]:
    """Return every If of a model, each before those in its branches."""
    return [node for top in top_graphs(model) for node in nodes_in(top) if is_if(node)]


def is_if(node: ir.Node) -> bool:
    """Whether a node is an If of the standard domain."""
    return node.op_type == "If" and not node.domain


def branches_of(node: ir.Node) -> tuple[ir.Graph, ir.Graph]:
    """Return the branch taken on true and the one taken on false."""
    return node.attributes["then_branch"].as_graph(), node.attributes["else_branch"].as_graph()


def ifs_on(condition: ir.Value, graph: ir.Graph) -> Iterator[ir.Node]:
    """Yield the nodes of `graph` itself that are an If on `condition`."""
    for user in condition.consumers():
        if user.graph is graph and is_if(user):
            yield user


def decide(node: ir.Node, *, taken: bool, names: Names) -> None:
    """Give an If a constant condition."""
    assert node.graph is not None
    name = names.fresh(f"{node.outputs[0].name}/condition")
    tensor = ir.Tensor(np.array(taken), name=name)
    constant = ir.Node("", "Constant", (), (ir.AttrTensor("value", tensor),), name=name)
    value = constant.outputs[0]
    value.name, value.type, value.shape = name, ir.TensorType(ir.DataType.BOOL), ir.Shape(())
    node.graph.insert_before(node, constant)
    node.replace_input_with(0, value)


def swap(node: ir.Node) -> None:
    """Let the branches of an If change places."""
    first, second = branches_of(node)
    node.attributes["then_branch"] = ir.AttrGraph("then_branch", second)
    node.attributes["else_branch"] = ir.AttrGraph("else_branch", first)


def producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """Return the node behind a value if it is of this type and of the standard domain."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op_type and not node.domain else None


def without_outputs(node: ir.Node, dropped: Collection[int]) -> ir.Node:
    """Replace an If or a Loop by one without some of its outputs, and return it.

    Args:
        node: the If or Loop; it is left without its bodies.
        dropped: indices of outputs that nothing uses, or will use; no loop-carried ones.
    """
    if not dropped:
        return node
    assert node.graph is not None
    kept = [index for index in range(len(node.outputs)) if index not in dropped]
    for body in bodies_of(node):
        first = len(body.outputs) - len(node.outputs)
        results = [*body.outputs[:first], *(body.outputs[first + index] for index in kept)]
        body.outputs.clear()
        body.outputs.extend(results)
    new = ir.Node("", node.op_type, node.inputs, _taken(node), num_outputs=len(kept), name=node.name)
    new.doc_string = node.doc_string
    new.metadata_props.update(node.metadata_props)
    node.graph.insert_before(node, new)
    for index, output in zip(kept, new.outputs, strict=True):
        stand_in(output, node.outputs[index])
    detach(node)
    return new


def take_unshared_names(node: ir.Node, names: Names) -> None:
    """Rename a node that changes its graph, and its outputs, where another body uses the name too."""
    node.name = names.unshared(node.name) if node.name else node.name
    for output in node.outputs:
        output.name = names.unshared(output.name) if output.name else output.name


def stand_in(new: ir.Value, old: ir.Value) -> None:
    """Let a new value take the place, the name and the facts of an old one."""
    new.name, new.type, new.shape = old.name, old.type, old.shape
    new.metadata_props.update(old.metadata_props)
    new.meta.update(old.meta)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    old.name = None


def _taken(node: ir.Node) -> list[ir.Attr]:
    """Take the attributes of a node away from it, so that its bodies outlive it."""
    attributes = list(node.attributes.values())
    node.attributes.clear()
    return attributes
