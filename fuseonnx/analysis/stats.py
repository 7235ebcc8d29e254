"""How big a model is, and roughly what it costs to run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, prod

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from fuseonnx.analysis.macs import MACS, KnownShapeOf
from fuseonnx.analysis.shapes import annotate, static_shape
from fuseonnx.core.constants import constant_tensor, is_const
from fuseonnx.core.graph import all_graphs
from fuseonnx.errors import OptionError
from fuseonnx.report import GraphStats

ShapeOf = Callable[[ir.Value | None], tuple[int, ...] | None]

_MOVES_DATA = frozenset(
    {
        *("Cast", "CastLike", "Concat", "Constant", "ConstantOfShape", "DepthToSpace", "Expand", "Flatten"),
        *("Gather", "GatherElements", "GatherND", "Identity", "If", "Loop", "Pad", "Reshape", "Scan"),
        *("Shape", "Size", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
    }
)


@dataclass(frozen=True)
class Weight:
    """One constant tensor of a model."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True)
class Cost:
    """What one run of a model costs, estimated from its shapes."""

    flops: int
    """Floating-point (or integer) operations; one multiply-accumulate is two."""
    bytes_moved: int
    """Bytes that the nodes read and write, each tensor counted once per use."""
    assumed: dict[str, tuple[int, ...]]
    """Inputs with a dynamic dim, and the shape they were counted with."""
    uncounted: int
    """Nodes left out because onnx cannot infer their shapes."""


def graph_stats(model: ir.Model, file_bytes: int = 0) -> GraphStats:
    """Count nodes and weights, those in bodies of If/Loop/Scan and in local functions included.

    Args:
        model: the model; its weights are not read.
        file_bytes: size of its file or files on disk, in bytes.
    """
    tensors = list(_weights(model))
    ops = Counter(_op_name(node) for graph in all_graphs(model) for node in graph)
    return GraphStats(
        nodes=ops.total(),
        parameters=sum(tensor.size for _, tensor in tensors),
        weight_bytes=sum(tensor.nbytes for _, tensor in tensors),
        ops=dict(sorted(ops.items(), key=lambda item: (-item[1], item[0]))),
        file_bytes=file_bytes,
    )


def biggest_weights(model: ir.Model, count: int = 10) -> list[Weight]:
    """Return the `count` largest constant tensors by bytes, largest first, equal ones by name."""
    weights = [
        Weight(name, dtype_name(tensor.dtype), tuple(tensor.shape.numpy()), tensor.nbytes)
        for name, tensor in _weights(model)
    ]
    return sorted(weights, key=lambda weight: (-weight.nbytes, weight.name))[:count]


def estimate_flops(
    model: ir.Model,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    *,
    simplify: Callable[[ir.Model], None] = lambda _model: None,
) -> Cost:
    """Estimate the operations and the memory traffic of one run; `model` itself is left as it is.

    Conv, ConvTranspose, MatMul, Gemm, Einsum, Attention and the recurrent operators count two operations per
    multiply-accumulate, data movement none, every other operator one per element of its largest tensor. A
    body (If, Loop, Scan) counts once, whichever branch is taken and however often it runs.

    Args:
        model: the model.
        input_shapes: shapes of inputs by name; every other dynamic dim counts as 1.
        simplify: called on the copy whose inputs have become static; to fold what follows from their shapes
            lets onnx infer the shapes of more nodes.

    Raises:
        OptionError: `input_shapes` names no input of the model, or does not fit the one it names.
    """
    copy = model.clone()
    InlinePass()(copy)
    assumed = _fix_inputs(copy, input_shapes or {})
    simplify(copy)
    annotate(copy)
    flops = bytes_moved = uncounted = 0
    for graph in all_graphs(copy):
        for node in graph:
            work = work_of(node)
            if work is None:
                uncounted += 1
            else:
                flops += work[0]
                bytes_moved += work[1]
    return Cost(flops, bytes_moved, assumed, uncounted)


def work_of(node: ir.Node, shape_of: ShapeOf = static_shape) -> tuple[int, int] | None:
    """Return the operations of a node, and the bytes that it reads and writes, bodies not counted.

    Args:
        node: any node; a function call counts like an element-wise operator.
        shape_of: tells the shape of a value, None if it is unknown.

    Returns:
        None if they depend on a shape that is unknown.
    """

    def known_shape_of(value: ir.Value | None) -> tuple[int, ...]:
        shape = shape_of(value)
        if shape is None or min(shape, default=0) < 0:
            raise _UnknownShapeError
        return shape

    try:
        return _flops(node, known_shape_of), _bytes_moved(node, known_shape_of)
    except _UnknownShapeError:
        return None


def assumed_shapes(
    model: ir.Model, input_shapes: Mapping[str, Sequence[int]]
) -> dict[str, tuple[int, ...] | None]:
    """Return the shape that each input is counted with, by name; None if its rank is unknown.

    Args:
        model: the model.
        input_shapes: shapes of inputs by name; other dynamic dims count as 1, or as those of their name.

    Raises:
        OptionError: `input_shapes` names no input of the model, or does not fit the one it names.
    """
    inputs = {value.name or "": value for value in model.graph.inputs if not value.is_initializer()}
    if unknown := input_shapes.keys() - inputs.keys():
        known = ", ".join(inputs)
        raise OptionError(f"no input is named '{min(unknown)}'; the model's inputs are: {known}")
    sizes: dict[str, int] = {}
    for name, wanted in input_shapes.items():
        _take_sizes(inputs[name], wanted, sizes)
    return {
        name: tuple(input_shapes[name]) if name in input_shapes else _filled(value, sizes)
        for name, value in inputs.items()
    }


@cache
def dtype_name(dtype: ir.DataType) -> str:
    """Return numpy's name of an element type, such as `float32`."""
    if dtype in (ir.DataType.STRING, ir.DataType.UNDEFINED):
        return dtype.name.lower()
    return dtype.numpy().name


def _weights(model: ir.Model) -> Iterator[tuple[str, ir.TensorProtocol]]:
    for graph in all_graphs(model):
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.name or "", value.const_value
        for node in graph:
            if node.op_type == "Constant" and is_const(node.outputs[0]):
                yield node.outputs[0].name or "", constant_tensor(node.outputs[0])


def _op_name(node: ir.Node) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


def _fix_inputs(model: ir.Model, input_shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Make the shape of every input static; return those that were chosen here."""
    inputs = {value.name: value for value in model.graph.inputs}
    assumed = {}
    for name, shape in assumed_shapes(model, input_shapes).items():
        if shape is not None:
            if name not in input_shapes and static_shape(inputs[name]) != shape:
                assumed[name] = shape
            inputs[name].shape = ir.Shape(shape)
    return assumed


def _filled(value: ir.Value, sizes: Mapping[str, int]) -> tuple[int, ...] | None:
    if value.shape is None:
        return None
    dims = [_size_or_symbol(dim) for dim in value.shape]
    return tuple(sizes.get(dim, 1) if isinstance(dim, str) else dim for dim in dims)


def _take_sizes(value: ir.Value, wanted: Sequence[int], sizes: dict[str, int]) -> None:
    """Note in `sizes` what `wanted` says of the named dims of `value`."""
    declared = ir.Shape(wanted) if value.shape is None else value.shape
    given = ",".join(map(str, wanted))
    if declared.rank() != len(wanted):
        raise OptionError(
            f"shape {given} of input '{value.name}' has rank {len(wanted)}, the model has {declared.rank()}"
        )
    for dim, size in zip(map(_size_or_symbol, declared), wanted, strict=True):
        if isinstance(dim, int) and dim != size:
            raise OptionError(f"shape {given} of input '{value.name}' has {size} where the model has {dim}")
        if isinstance(dim, str) and dim:
            sizes[dim] = size


def _size_or_symbol(dim: int | ir.SymbolicDim) -> int | str:
    """Return the size, or the symbol ("" for a dim without a name; some exporters write -1)."""
    if isinstance(dim, int):
        return dim if dim >= 0 else ""
    return dim.value or ""


class _UnknownShapeError(Exception):
    pass


def _bytes_moved(node: ir.Node, shape_of: KnownShapeOf) -> int:
    if node.op_type == "Constant":
        return 0
    values = [value for value in (*node.inputs, *node.outputs) if value is not None and value.name]
    return sum(
        ceil(prod(shape_of(value)) * value.dtype.itemsize)
        for value in values
        if value.dtype is not None and value.dtype is not ir.DataType.STRING
    )


def _flops(node: ir.Node, shape_of: KnownShapeOf) -> int:
    if node.op_type in _MOVES_DATA:
        return 0
    count = MACS.get(node.op_type)
    if count is not None:
        return 2 * count(node, shape_of)
    return max(prod(shape_of(value)) for value in (*node.inputs[:1], node.outputs[0]) if value is not None)


MULTIPLYING = frozenset(MACS)
"""Operators that are counted in multiply-accumulates."""
