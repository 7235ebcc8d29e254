"""Random models of float32 operators that two providers have, with a random device for every node.

dag = random_dag(seed)
dag.model, dag.devices, dag.feeds
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Device = Literal["cpu", "gpu"]
Array = NDArray[Any]
OPSET, IR_VERSION = 17, 10


@dataclass(frozen=True)
class Dag:
    """A model whose nodes carry their device as `layer_ann`.

    Attributes:
        devices: the device of each node, in the model's order; a Constant has one, too, that means nothing.
        nbytes: the size in bytes of every input and of every output of a node, by name.
    """

    model: onnx.ModelProto
    devices: tuple[Device, ...]
    feeds: dict[str, Array]
    nbytes: dict[str, int]

    @property
    def wanted(self) -> dict[str, Device]:
        """Node name to device, as onnxruntime should tell: without Constants, with the nodes of branches."""
        wanted: dict[str, Device] = {}
        for node, device in zip(self.model.graph.node, self.devices, strict=True):
            if node.op_type != "Constant":
                wanted[node.name] = device
            branches = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
            wanted |= {inner.name: device for branch in branches for inner in branch.node}
        return wanted


class _Builder:
    """A graph that grows; `shapes` holds its float32 values."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, Array] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.nbytes: dict[str, int] = {}

    def choose(self, items: Sequence[Any]) -> Any:
        return items[int(self.rng.integers(len(items)))]

    def value(self) -> str:
        return str(self.choose(list(self.shapes)))

    def add(self, name: str, shape: Sequence[int]) -> str:
        self.shapes[name] = tuple(shape)
        self.nbytes[name] = 4 * prod(shape)
        return name

    def node(self, op_type: str, inputs: Sequence[str], *shapes: Sequence[int], **attributes: Any) -> None:
        name = f"{op_type}_{len(self.nodes)}"
        outputs = [self.add(f"{name}:{number}", shape) for number, shape in enumerate(shapes)]
        self.nodes.append(helper.make_node(op_type, inputs, outputs, name, **attributes))

    def weight(self, *shape: int) -> str:
        """Return weights of that shape, often ones that other nodes have already."""
        alike = [
            name
            for name, array in self.initializers.items()
            if array.shape == shape and array.dtype == np.float32
        ]
        if alike and self.rng.random() < 0.5:
            return str(self.choose(alike))
        array = self.rng.uniform(-1, 1, shape).astype(np.float32) / np.sqrt(shape[0], dtype=np.float32)
        if self.rng.random() < 0.3:
            name = f"Constant_{len(self.nodes)}"
            tensor = numpy_helper.from_array(array)
            self.nodes.append(helper.make_node("Constant", [], [name], name, value=tensor))
            return name
        return self.initializer(array)

    def initializer(self, array: Array) -> str:
        name = f"w{len(self.initializers)}"
        self.initializers[name] = array
        return name


def _unary(graph: _Builder) -> None:
    value = graph.value()
    graph.node(graph.choose(["Relu", "Sigmoid", "Tanh", "Neg", "Abs"]), [value], graph.shapes[value])


def _binary(graph: _Builder) -> None:
    value = graph.value()
    alike = [name for name, shape in graph.shapes.items() if shape == graph.shapes[value]]
    operator = graph.choose(["Add", "Sub", "Max", "Min"])
    graph.node(operator, [value, graph.choose(alike)], graph.shapes[value])


def _weighted(graph: _Builder) -> None:
    value = graph.value()
    shape = graph.shapes[value]
    graph.node(graph.choose(["Add", "Mul"]), [value, graph.weight(shape[-1])], shape)


def _where(graph: _Builder) -> None:
    value = graph.value()
    shape = graph.shapes[value]
    other = graph.choose([name for name, found in graph.shapes.items() if found == shape])
    graph.node("Greater", [value, other], shape)
    condition = graph.nodes[-1].output[0]
    del graph.shapes[condition]
    graph.nbytes[condition] = prod(shape)
    graph.node("Where", [condition, value, other], shape)


def _matmul(graph: _Builder) -> None:
    value = graph.value()
    *rows, columns = graph.shapes[value]
    size = graph.choose([columns, 6])
    graph.node("MatMul", [value, graph.weight(columns, size)], [*rows, size])


def _concat(graph: _Builder) -> None:
    value = graph.value()
    shape = graph.shapes[value]
    fitting = [name for name, other in graph.shapes.items() if other[:-1] == shape[:-1]]
    others = [graph.choose(fitting) for _ in range(int(graph.rng.integers(1, 3)))]
    width = shape[-1] + sum(graph.shapes[other][-1] for other in others)
    if width <= 24:
        graph.node("Concat", [value, *others], [*shape[:-1], width], axis=-1)


def _split(graph: _Builder) -> None:
    value = graph.value()
    *rows, columns = graph.shapes[value]
    if columns > 1:
        parts = (columns // 2, columns - columns // 2)
        sizes = graph.initializer(np.array(parts))
        graph.node("Split", [value, sizes], *([*rows, part] for part in parts), axis=len(rows))


def _reshape(graph: _Builder) -> None:
    value = graph.value()
    shape = graph.shapes[value]
    target = graph.choose([shape[::-1], (prod(shape[:-1]), shape[-1]), (shape[0], prod(shape[1:]))])
    graph.node("Reshape", [value, graph.initializer(np.array(target))], target)


def _reshape_like(graph: _Builder) -> None:
    value = graph.value()
    size = prod(graph.shapes[value])
    other = graph.choose([name for name, shape in graph.shapes.items() if prod(shape) == size])
    shape = graph.shapes[other]
    graph.node("Shape", [other], [len(shape)])
    computed = graph.nodes[-1].output[0]
    del graph.shapes[computed]
    graph.nbytes[computed] = 8 * len(shape)
    graph.node("Reshape", [value, computed], shape)


def _transpose(graph: _Builder) -> None:
    value = graph.value()
    order = graph.rng.permutation(len(graph.shapes[value])).tolist()
    graph.node("Transpose", [value], [graph.shapes[value][axis] for axis in order], perm=order)


def _softmax(graph: _Builder) -> None:
    value = graph.value()
    graph.node("Softmax", [value], graph.shapes[value], axis=-1)


def _mean(graph: _Builder) -> None:
    value = graph.value()
    graph.node("ReduceMean", [value], [*graph.shapes[value][:-1], 1], axes=[-1])


def _if(graph: _Builder) -> None:
    """Add an If whose branches capture a value; the nodes in them have no device of their own."""
    value = graph.value()
    shape = graph.shapes[value]
    branches = {}
    for branch, operator in (("then_branch", "Neg"), ("else_branch", "Abs")):
        name = f"{branch}_{len(graph.nodes)}"
        nodes = [helper.make_node(operator, [value], [name], name)]
        branches[branch] = helper.make_graph(nodes, branch, [], [_info(name, shape)])
    graph.node("If", [graph.initializer(np.array(graph.rng.random() < 0.5))], shape, **branches)


def _gather(graph: _Builder) -> None:
    value = graph.value()
    first, *rest = graph.shapes[value]
    indices = graph.rng.integers(0, first, 4)
    graph.node("Gather", [value, graph.initializer(indices)], [4, *rest], axis=0)


_OPERATORS: tuple[Callable[[_Builder], None], ...] = (
    *[_unary, _binary] * 3,
    *[_weighted, _matmul, _concat, _split] * 2,
    *[_reshape, _reshape_like, _transpose, _softmax, _mean, _gather, _where, _if],
)


def random_dag(seed: int) -> Dag:
    """Return the model of a seed: 1 to 3 inputs, 4 to 24 operators, values shared and put out at random.

    The first dimension of an input is symbolic, so that what Shape computes is no constant.
    """
    graph = _Builder(seed)
    inputs = [
        graph.add(f"x{number}", graph.choose([(2, 3, 4), (6, 4), (4, 6)]))
        for number in range(int(graph.rng.integers(1, 4)))
    ]
    for _ in range(int(graph.rng.integers(4, 25))):
        graph.choose(_OPERATORS)(graph)
    used = {name for node in graph.nodes for name in node.input}  # what a branch captures is put out, too
    outputs = [
        name
        for name in graph.shapes
        if name not in inputs and (name not in used or graph.rng.random() < 0.15)
    ]
    devices = tuple(graph.choose(["cpu", "gpu"]) for _ in graph.nodes)
    for node, device in zip(graph.nodes, devices, strict=True):
        node.metadata_props.add(key="layer_ann", value=device)
    proto = helper.make_graph(
        graph.nodes,
        f"dag {seed}",
        [_info(name, [f"n{size}", *rest]) for name in inputs for size, *rest in [graph.shapes[name]]],
        [_info(name, graph.shapes[name]) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in graph.initializers.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    feeds = {name: graph.rng.standard_normal(graph.shapes[name]).astype(np.float32) for name in inputs}
    return Dag(
        helper.make_model(proto, opset_imports=opsets, ir_version=IR_VERSION), devices, feeds, graph.nbytes
    )


def _info(name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
