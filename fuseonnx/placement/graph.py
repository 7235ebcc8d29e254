"""The main graph of a model as placement sees it: values with sizes, nodes with the work they do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil, prod

import onnx_ir as ir

from fuseonnx.analysis.stats import work_of
from fuseonnx.core.graph import bodies_of, nodes_in
from fuseonnx.placement.facts import Sizes, constant_results, type_name
from fuseonnx.placement.memory import host_inputs, host_outputs

_SMALL = 100
"""Elements of the largest tensor that may be a shape."""


@dataclass(frozen=True)
class Value:
    """A tensor that the nodes of the main graph read or write.

    Attributes:
        name: its name.
        dtype: such as `float32` or `sequence(float32)`, "" if unknown.
        dims: its sizes, None where one is unknown; None if the rank is unknown.
        nbytes: its size in bytes; unknown dims count as 1, what is no tensor of numbers as 0.
        is_initializer: whether it is constant, or, if `is_input` as well, a default that may be overridden.
        is_input: whether it is an input of the graph.
        is_output: whether it is an output of the graph.
        is_shape: whether it only serves to compute shapes, axes and the like, which onnxruntime reads on the
            CPU whatever device a node runs on.
    """

    name: str
    dtype: str
    dims: tuple[int | None, ...] | None
    nbytes: int
    is_initializer: bool
    is_input: bool
    is_output: bool
    is_shape: bool = False


@dataclass(frozen=True)
class Node:
    """A node of the main graph.

    Attributes:
        index: its position among the nodes of the main graph.
        name: its name, may be "".
        op_type: its operator.
        domain: "" for the standard one.
        opset: version of its domain that the model imports.
        inputs: names of the values it reads, "" for an input left out.
        outputs: names of the values it writes, "" for an output left out.
        input_types: their types as in `Value.dtype`.
        output_types: likewise.
        attributes: as in the IR.
        flops: operations of one run, those of its bodies once; unknown dims count as 1.
        nbytes: bytes that it and its bodies read and write.
        is_counted: whether every dim that flops and nbytes depend on is known, a batch of 1 assumed.
        bodies: how many graphs it holds (branches of If, bodies of Loop and Scan).
        captures: names of the values of the main graph that its bodies read.
        inner: the nodes of its bodies, or of the function that it calls.
        is_function: whether it calls a function of the model, which onnxruntime inlines.
        is_constant: whether onnxruntime turns it into an initializer: a Constant, or folded.
        host_inputs: positions of inputs that a GPU kernel of it reads in CPU memory.
        host_outputs: positions of outputs that a GPU kernel of it leaves in CPU memory.
    """

    index: int
    name: str
    op_type: str
    domain: str
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    input_types: tuple[str, ...]
    output_types: tuple[str, ...]
    attributes: Mapping[str, ir.Attr] = field(default_factory=dict)
    flops: int = 0
    nbytes: int = 0
    is_counted: bool = True
    bodies: int = 0
    captures: tuple[str, ...] = ()
    inner: tuple[Node, ...] = ()
    is_function: bool = False
    is_constant: bool = False
    host_inputs: frozenset[int] = frozenset()
    host_outputs: frozenset[int] = frozenset()

    @property
    def operator(self) -> str:
        """Its operator, with the domain before it where that is not the standard one."""
        return f"{self.domain}::{self.op_type}" if self.domain else self.op_type


@dataclass(frozen=True)
class Graph:
    """The nodes of the main graph in the order of the model, constant ones included, and values by name."""

    nodes: tuple[Node, ...]
    values: Mapping[str, Value]

    @cached_property
    def users(self) -> Mapping[str, tuple[int, ...]]:
        """Indices of the nodes that read a value when the model runs, by its name; captures do not count."""
        users: dict[str, list[int]] = defaultdict(list)
        for node in self.nodes:
            for name in dict.fromkeys(() if node.is_constant else node.inputs):
                users[name].append(node.index)
        return {name: tuple(indices) for name, indices in users.items() if name}


def read_graph(
    model: ir.Model,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    *,
    folds_constants: bool = True,
) -> Graph:
    """Return what placement has to know of a model.

    Args:
        model: annotated by `analysis.shapes.annotate`; it is left as it is.
        input_shapes: shapes of inputs by name; other dynamic dims count as 1, as they do for `inspect`.
        folds_constants: whether onnxruntime folds constants before it places nodes, which it does unless its
            graph optimizations are off.

    Raises:
        OptionError: `input_shapes` names no input of the model, or does not fit the one it names.
    """
    sizes = Sizes(model, input_shapes or {})
    outer = dict.fromkeys(value for value in _values(model.graph) if value.name)
    constants = constant_results(model.graph, folds_constants=folds_constants)
    values = {value.name or "": _value(value, sizes, constants) for value in outer}
    nodes = tuple(
        replace(
            _node(node, index, model, sizes, outer, model.graph.opset_imports),
            is_constant=bool(node.outputs) and node.outputs[0] in constants,
        )
        for index, node in enumerate(model.graph)
    )
    return Graph(nodes, _with_shapes_marked(nodes, values))


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    """Yield the values of the main graph; some that it reads (sparse initializers) belong to nothing."""
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from (value for value in node.inputs if value is not None)
        yield from node.outputs


def _value(value: ir.Value, sizes: Sizes, constants: Container[ir.Value]) -> Value:
    is_input = value.is_graph_input()
    is_fixed = value in constants or (value.producer() is None and not is_input)
    return Value(
        name=value.name or "",
        dtype=type_name(value.type),
        dims=sizes.dims(value),
        nbytes=_nbytes(value, sizes),
        is_initializer=is_fixed or value.is_initializer(),
        is_input=is_input,
        is_output=value.is_graph_output(),
    )


def _nbytes(value: ir.Value, sizes: Sizes) -> int:
    shape = sizes.filled(value)
    if shape is None or not isinstance(value.type, ir.TensorType) or value.dtype is ir.DataType.STRING:
        return 0
    return ceil(max(prod(shape), 0) * value.type.dtype.itemsize)


def _node(
    node: ir.Node,
    index: int,
    model: ir.Model,
    sizes: Sizes,
    outer: Container[ir.Value],
    imports: Mapping[str, int],
) -> Node:
    domain = "" if node.domain == "ai.onnx" else node.domain
    opset = imports.get(domain, imports.get("ai.onnx", 1) if not domain else 1)
    bodies = list(bodies_of(node))
    inside = [inner for body in bodies for inner in nodes_in(body)]
    called = model.functions.get(node.op_identifier())
    inner = (inner for body in bodies for inner in body) if called is None else called
    inner_imports = imports if called is None else called.opset_imports
    works = [work_of(each, sizes.filled) for each in (node, *inside)]
    return Node(
        index=index,
        name=node.name or "",
        op_type=node.op_type,
        domain=domain,
        opset=opset,
        inputs=tuple(_name(value) for value in node.inputs),
        outputs=tuple(_name(value) for value in node.outputs),
        input_types=tuple("" if value is None else type_name(value.type) for value in node.inputs),
        output_types=tuple(type_name(value.type) for value in node.outputs),
        attributes=node.attributes,
        flops=sum(work[0] for work in works if work),
        nbytes=sum(work[1] for work in works if work),
        is_counted=None not in works and all(_is_counted(each, sizes) for each in (node, *inside)),
        bodies=len(bodies),
        captures=tuple(
            dict.fromkeys(_name(value) for inner in inside for value in inner.inputs if value in outer)
        ),
        inner=tuple(_node(each, index, model, sizes, outer, inner_imports) for each in inner),
        is_function=called is not None,
        host_inputs=host_inputs(node.op_type, domain),
        host_outputs=host_outputs(node.op_type, domain),
    )


def _name(value: ir.Value | None) -> str:
    return "" if value is None else value.name or ""


def _is_counted(node: ir.Node, sizes: Sizes) -> bool:
    values = [value for value in (*node.inputs, *node.outputs) if value is not None and value.name]
    return all(map(sizes.are_known, values))


def _with_shapes_marked(nodes: Sequence[Node], values: dict[str, Value]) -> dict[str, Value]:
    """Mark what is read in CPU memory only, or only by nodes that compute such values."""
    needed = {name for node in nodes for name in node.captures}
    read: set[str] = set()
    for node in reversed(nodes):
        makes_shapes = not node.host_outputs and not node.bodies
        for name in node.outputs:
            makes_shapes &= _may_be_shape(values.get(name)) and name in read and name not in needed
        for position, name in enumerate(node.inputs):
            read.add(name)
            if position not in node.host_inputs and not makes_shapes:
                needed.add(name)
    return {
        name: replace(value, is_shape=True)
        if name in read and name not in needed and _may_be_shape(value)
        else value
        for name, value in values.items()
    }


def _may_be_shape(value: Value | None) -> bool:
    if value is None or value.is_output or value.dims is None:
        return False
    return len(value.dims) <= 1 and prod(1 if dim is None else dim for dim in value.dims) <= _SMALL
