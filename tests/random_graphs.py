"""Random valid ONNX models, each with two sets of inputs on which to compare it with what is made of it.

    case = random_case(seed)
    case.model, case.runs

What makes the nodes is in tests/fuzzing/: single operators, and rows of them that rules rewrite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.fuzzing import (
    branches,
    chains,
    control,
    cutting,
    elementwise,
    idioms,
    layout,
    linear,
    nets,
    parts,
    positions,
    sandwich,
)
from tests.fuzzing.scope import FLOATS, Array, Dim, Scope, Shape, Skip, Value, World

Operator = Callable[[Scope], Value]
IR_VERSION = {9: 4, 11: 6, 13: 7, 15: 8, 17: 8, 18: 8, 21: 10, 22: 10, 23: 11}

_WEIGHTED: tuple[tuple[int, Operator], ...] = (
    (4, elementwise.unary),
    (5, elementwise.with_constant),
    (4, elementwise.binary),
    (2, elementwise.compare),
    (2, elementwise.where),
    (1, elementwise.cast),
    (2, elementwise.reduce),
    (2, elementwise.again),
    (1, elementwise.again_and_again),
    (2, layout.transpose),
    (2, layout.squeeze),
    (2, layout.unsqueeze),
    (1, layout.flatten),
    (3, layout.reshape),
    (1, layout.shape_value),
    (2, layout.expand),
    (1, layout.constant_of_shape),
    (1, layout.range_),
    (2, cutting.slice_),
    (2, cutting.pad),
    (2, cutting.split),
    (2, cutting.concat),
    (2, cutting.gather),
    (1, cutting.tile),
    (2, chains.bounds),
    (2, chains.affine),
    (1, chains.casts),
    (2, chains.shapes),
    (2, chains.slices),
    (1, chains.joins),
    (2, chains.padded),
    (1, chains.reduced),
    (1, chains.gathers),
    (1, chains.arg),
    (3, sandwich.sandwich),
    (2, sandwich.meeting),
    (4, linear.conv),
    (2, linear.conv_transpose),
    (2, linear.batch_normalization),
    (2, linear.group_normalization),
    (3, linear.matmul),
    (3, linear.gemm),
    (2, linear.pool),
    (2, nets.recurrent),
    (2, nets.pixels),
    (1, nets.zero_term),
    (2, parts.splits),
    (2, parts.neighbours),
    (2, parts.with_empty_parts),
    (2, parts.wild_slices),
    (1, positions.gather_nd),
    (1, positions.at_own_positions),
    (2, positions.heads),
    (1, positions.zeros_from_afar),
    (2, branches.convs),
    (2, branches.products),
    (1, branches.in_a_row),
    (1, branches.attention),
    (1, branches.turned),
    (1, branches.einsum),
    (1, branches.twins),
    (4, idioms.idiom),
    (1, lambda g: control.if_(g, grow)),
    (1, lambda g: control.equal_branches(g, grow)),
    (1, lambda g: control.weighted_branches(g, grow)),
    (1, lambda g: control.two_ifs(g, grow)),
    (1, lambda g: control.loop(g, grow)),
    (1, lambda g: control.counted_loop(g, grow)),
    (1, lambda g: control.scan(g, grow)),
    (1, lambda g: control.call(g, grow)),
)
_OPERATORS = tuple(operator for weight, operator in _WEIGHTED for _ in range(weight))


@dataclass(frozen=True)
class Case:
    """A model and two sets of inputs: symbolic dims differ, and the second overrides initializers."""

    seed: int
    model: onnx.ModelProto
    runs: tuple[dict[str, Array], dict[str, Array]]


def grow(scope: Scope, count: int) -> None:
    """Add about `count` random operators to a graph."""
    operator = scope.choose(_OPERATORS)
    for _ in range(count):
        if scope.chance(0.85):
            operator = scope.choose(_OPERATORS)
        try:
            made = operator(scope)
        except Skip:
            continue
        scope.focus = made if scope.chance(0.7) else None


def random_case(seed: int) -> Case:
    """Return the model of a seed."""
    rng = np.random.default_rng(seed)
    opset = int(rng.choice(list(IR_VERSION)))
    ir_version = 3 if opset == 9 and rng.random() < 0.4 else IR_VERSION[opset]
    dtype = int(rng.choice([TensorProto.FLOAT] * 8 + [TensorProto.FLOAT16, TensorProto.DOUBLE]))
    infinite = dtype != TensorProto.FLOAT16 and bool(rng.random() < 0.1)
    world = World(rng, opset, ir_version, dtype, infinite, empty=bool(rng.random() < 0.1))
    graph = Scope(world)
    symbols = {"batch": _sizes(graph, 3), "length": _sizes(graph, 6)}
    inputs = _inputs(graph, symbols)
    graph.values += inputs
    grow(graph, graph.between(3, 22))
    outputs = _outputs(graph, inputs)
    overridable = _overridable(graph)
    proto = helper.make_graph(
        graph.nodes,
        "random",
        [_info(value, symbols) for value in inputs]
        + [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in graph.initializers.items()
            if name in overridable or ir_version < 4
        ],
        [_info(value, symbols) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in graph.initializers.items()],
        value_info=_declared(graph, inputs, outputs, symbols),
    )
    model = helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(control.DOMAIN, 1)],
        functions=[function.proto for function in world.functions],
        ir_version=ir_version,
    )
    overrides = {name: _override(graph.initializers[name]) for name in sorted(overridable)}
    return Case(seed, model, (_feeds(graph, inputs, 0), _feeds(graph, inputs, 1) | overrides))


def _sizes(graph: Scope, largest: int) -> Dim:
    first = graph.between(1, largest)
    smallest = 0 if graph.world.empty else 1
    return first, graph.choose([size for size in range(smallest, largest + 2) if size != first])


def _inputs(graph: Scope, symbols: dict[str, Dim]) -> list[Value]:
    def dim() -> Dim:
        return (graph.between(1, 4),) * 2

    batch, length = symbols["batch"], symbols["length"]
    side = graph.between(3, 6)
    forms: list[Shape] = [
        (batch, dim(), (side, side), (side, side)),
        (batch, dim(), (side, side), (side, side)),
        ((1, 1), dim(), (4, 4), (5, 5)),
        (batch, dim(), length, length),
        (batch, dim(), length),
        (batch, length, dim()),
        (batch, length, dim()),
        (batch, dim()),
        (batch, dim()),
        (dim(), dim()),
        (dim(), dim()),
        (length,),
        (dim(),),
        (),
        (batch, dim(), (2, 2), (3, 3), (3, 3)),
        (dim(), (2, 2), (1, 1), dim()),
    ]
    dtype = graph.world.dtype
    inputs = [Value(f"x{index}", dtype, graph.choose(forms)) for index in range(graph.between(1, 3))]
    if graph.chance(0.3):
        inputs.append(
            Value("n", graph.choose((TensorProto.INT64, TensorProto.INT32)), graph.choose(forms[5:]))
        )
    if graph.chance(0.3):
        inputs.append(Value("flag", TensorProto.BOOL, bound=1.0))
    if graph.chance(0.2):
        inputs.append(Value("mask", TensorProto.BOOL, inputs[0].shape, bound=1.0))
    return inputs


def _outputs(graph: Scope, inputs: list[Value]) -> list[Value]:
    """Return the last value, some in the middle, and now and then an input or a constant."""
    made = {name for node in graph.nodes for name in node.output}
    computed = [value for value in graph.values if value.name in made and value not in inputs]
    outputs = computed[-1:]
    unread = [value for value in computed if value.name not in graph.read]
    outputs += [value for value in unread if graph.chance(0.4)]
    for _ in range(graph.between(0 if computed else 1, 2)):
        anywhere = [value for value in graph.values if value.name in made or graph.chance(0.05)]
        outputs.append(graph.choose(anywhere or inputs))
    return list(dict.fromkeys(outputs))


def _info(value: Value, symbols: dict[str, Dim]) -> onnx.ValueInfoProto:
    names = {sizes: name for name, sizes in symbols.items()}
    dims = [dim[0] if dim[0] == dim[1] else names.get(dim) for dim in value.shape]
    return helper.make_tensor_value_info(value.name, value.dtype, dims)


def _declared(
    graph: Scope, inputs: list[Value], outputs: list[Value], symbols: dict[str, Dim]
) -> list[onnx.ValueInfoProto]:
    signature = {value.name for value in (*inputs, *outputs)} | set(graph.initializers)
    inner = [value for value in graph.values if value.name not in signature]
    return [_info(value, symbols) for value in inner if graph.chance(0.2)]


def _overridable(graph: Scope) -> set[str]:
    if graph.world.ir_version < 4 or graph.chance(0.7):
        return set()
    floats = [name for name, array in graph.initializers.items() if array.dtype.kind == "f"]
    return {name for name in floats if graph.chance(0.3)}


def _override(array: Array) -> Array:
    """Return other values; variances stay positive."""
    return np.asarray(array * 1.25 + 0.25, dtype=array.dtype)


def _feeds(graph: Scope, inputs: list[Value], run: int) -> dict[str, Array]:
    feeds = {}
    for value in inputs:
        shape = value.sizes(run)
        if value.dtype in FLOATS:
            array: Array = np.asarray(graph.rng.normal(size=shape))
        elif value.dtype == TensorProto.BOOL:
            array = np.asarray(graph.rng.random(shape) < 0.5)
        else:
            array = np.asarray(graph.rng.integers(-3, 4, shape))
        feeds[value.name] = array.astype(helper.tensor_dtype_to_np_dtype(value.dtype))
    return feeds
