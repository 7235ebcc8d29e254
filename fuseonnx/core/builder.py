"""Builds the nodes of a replacement, detached from the graph until the driver splices them in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir

from fuseonnx.core.constants import Array, contiguous
from fuseonnx.core.graph import all_graphs

Attributes = Mapping[str, ir.Attr | int | float | str | Sequence[int] | Sequence[float] | ir.TensorProtocol]


class Refused(Exception):
    """Raised by `replace` with the reason why the rewrite is not possible after all."""


class Names:
    """The names in use in a model, over all its graphs."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._suffixes: Counter[str] = Counter()

    @cached_property
    def _uses(self) -> Counter[str]:
        names: list[str | None] = []
        for graph in all_graphs(self._model):
            names += (value.name for value in graph.inputs)
            names += graph.initializers
            for node in graph:
                names.append(node.name)
                names += (value.name for value in node.outputs)
        return Counter(name or "" for name in names)

    def fresh(self, base: str) -> str:
        """Return `base`, or `base` with the lowest suffix that makes it unique; it is then taken."""
        name = base
        while name in self._uses:
            self._suffixes[base] += 1
            name = f"{base}_{self._suffixes[base]}"
        self._uses[name] += 1
        return name

    def unshared(self, name: str) -> str:
        """Return `name` if one place alone uses it, else a fresh one: bodies side by side may share names."""
        return name if self._uses[name] <= 1 else self.fresh(name)


class Builder:
    """Collects the new nodes and constants of one rewrite."""

    def __init__(self, root: ir.Node, names: Names, *, constant_nodes: bool) -> None:
        self.nodes: list[ir.Node] = []
        self.initializers: list[ir.Value] = []
        self._namesakes: list[tuple[ir.Node, ir.Node]] = []
        self._root = root
        self._names = names
        self._constant_nodes = constant_nodes

    def op(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        attributes: Attributes | None = None,
        like: ir.Node | None = None,
        outputs: int = 1,
        domain: str = "",
    ) -> ir.Value:
        """Add a node and return its first output.

        Args:
            op_type: the operator.
            inputs: its inputs; trailing None are left off.
            attributes: Python values, or `ir.Attr` of another node.
            like: the old node whose name and place it takes; by default the root.
            outputs: number of outputs.
            domain: of the operator, if not the standard one; a model that does not import it yet gets its
                version 1, the only one of `com.microsoft`.
        """
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        like = like or self._root
        base = like.name or f"{self._root.outputs[0].name}/{op_type}"
        reuse = like.name and like.op_type == op_type and all(node.name != like.name for node in self.nodes)
        node = ir.Node(
            domain,
            op_type,
            inputs,
            _attributes(attributes or {}),
            num_outputs=outputs,
            name=base
            if reuse
            else self._names.fresh(base if like.op_type == op_type else f"{base}/{op_type}"),
        )
        if reuse:
            self._namesakes.append((node, like))
        for index, output in enumerate(node.outputs):
            output.name = self._names.fresh(f"{node.name}_output_{index}")
        self.nodes.append(node)
        return node.outputs[0]

    def rename_namesakes(self) -> None:
        """Give another name to each new node that took the name of an old one which stays."""
        for node, old in self._namesakes:
            if old.graph is not None and node.name:
                node.name = self._names.fresh(node.name)

    def adopt(self, body: ir.Graph) -> None:
        """Take the nodes and initializers out of a body, to stand in the graph around it.

        Each name that another body uses too is replaced by a fresh one.

        Raises:
            Refused: the body has initializers and would go into a local function, which cannot hold them.
        """
        if self._constant_nodes and body.initializers:
            raise Refused("a local function cannot hold the initializers of the body")
        body.outputs.clear()
        nodes = list(body)
        for node in nodes:  # while the body still holds them, and the names are counted with them
            node.name = self._names.unshared(node.name or "") if node.name else node.name
            for output in node.outputs:
                output.name = self._names.unshared(output.name) if output.name else output.name
        for name, value in list(body.initializers.items()):
            value.name = self._names.unshared(name)
            body.initializers.pop(value.name)
            self.initializers.append(value)
        body.remove(nodes)
        self.nodes.extend(nodes)

    def const(self, data: Array | ir.LazyTensor, like: ir.Value | None = None) -> ir.Value:
        """Add a constant and return it: an initializer, or a Constant node where there can be none.

        Args:
            data: its data; the dtype is kept. A lazy tensor is computed when the model is saved.
            like: the old value after which it is named.
        """
        base = (like.name if like is not None else None) or f"{self._root.outputs[0].name}/constant"
        name = self._names.fresh(
            base if like is None else f"{base}_folded".replace("_folded_folded", "_folded")
        )
        tensor: ir.Tensor[Array] | ir.LazyTensor
        if isinstance(data, ir.LazyTensor):
            tensor = data
            tensor.name = name
        else:
            tensor = ir.Tensor(contiguous(data), name=name)
        if self._constant_nodes:
            node = ir.Node("", "Constant", (), (ir.AttrTensor("value", tensor),), name=name)
            value = node.outputs[0]
            self.nodes.append(node)
        else:
            value = ir.Value(const_value=tensor)
            self.initializers.append(value)
        value.name, value.type, value.shape = name, ir.TensorType(tensor.dtype), ir.Shape(tuple(data.shape))
        return value


def _attributes(attributes: Attributes) -> list[ir.Attr]:
    return [
        value if isinstance(value, ir.Attr) else _attribute(name, value) for name, value in attributes.items()
    ]


def _attribute(name: str, value: Any) -> ir.Attr:
    """Return an attribute as a file holds it: floats have 32 bits, an empty list is one of integers."""
    if isinstance(value, list | tuple) and not value:
        return ir.AttrInt64s(name, [])
    return ir.convenience.convert_attribute(
        name, float(np.float32(value)) if isinstance(value, float) else value
    )
