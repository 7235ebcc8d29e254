"""Sizes and costs, against onnx's own protos and PyTorch's FLOP counter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.utils.flop_counter import FlopCounterMode

from fuseonnx.analysis.stats import biggest_weights, estimate_flops, graph_stats
from fuseonnx.errors import OptionError

Dims = Sequence[int | str | None]


def _model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Dims],
    weights: dict[str, np.ndarray[Any, Any]] | None = None,
    functions: list[onnx.FunctionProto] | None = None,
) -> ir.Model:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, ir_version=11, opset_imports=opsets, functions=functions or [])
    return ir.from_proto(model)


def _zeros(*shape: int) -> np.ndarray[Any, Any]:
    return np.zeros(shape, np.float32)


def _body(weight: str, elements: int) -> onnx.GraphProto:
    return helper.make_graph(
        [helper.make_node("Add", ["x", weight], [f"{weight}_y"])],
        f"{weight}_body",
        [],
        [helper.make_tensor_value_info(f"{weight}_y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(_zeros(elements), weight)],
    )


def test_graph_stats_counts_bodies_functions_and_constants() -> None:
    constant = numpy_helper.from_array(np.array([True]), "c")
    function = helper.make_function(
        "local",
        "Twice",
        ["a"],
        ["b"],
        [
            helper.make_node("Constant", [], ["two"], value_floats=[2.0, 2.0]),
            helper.make_node("Mul", ["a", "two"], ["b"]),
        ],
        [helper.make_opsetid("", 23)],
    )
    model = _model(
        [
            helper.make_node("Constant", [], ["c"], value=constant),
            helper.make_node("If", ["c"], ["t"], then_branch=_body("p", 3), else_branch=_body("q", 5)),
            helper.make_node("Twice", ["t"], ["y"], domain="local"),
        ],
        {"x": [1]},
        {"unused": np.zeros((2, 4), np.float16)},
        [function],
    )
    stats = graph_stats(model, file_bytes=1234)
    assert stats.nodes == 7
    assert stats.ops == {"Add": 2, "Constant": 2, "If": 1, "Mul": 1, "local::Twice": 1}
    assert stats.parameters == 8 + 1 + 3 + 5 + 2
    assert stats.weight_bytes == 16 + 1 + 4 * (3 + 5 + 2)
    assert stats.file_bytes == 1234


def test_four_bit_weights_take_half_a_byte() -> None:
    model = _model([helper.make_node("Identity", ["x"], ["y"])], {"x": [1]})
    packed = helper.make_tensor("w", TensorProto.INT4, [3, 5], [1] * 15)
    model.graph.register_initializer(ir.Value(name="w", const_value=ir.serde.deserialize_tensor(packed)))
    stats = graph_stats(model)
    assert (stats.parameters, stats.weight_bytes) == (15, 8)


def test_biggest_weights_are_sorted_by_bytes_then_name() -> None:
    weights = {"b": _zeros(10), "a": _zeros(10), "big": np.zeros((3, 4), np.float64), "small": _zeros(1)}
    model = _model([helper.make_node("Identity", ["x"], ["y"])], {"x": [1]}, weights)
    found = [(weight.name, weight.dtype, weight.shape, weight.nbytes) for weight in biggest_weights(model, 3)]
    assert found == [("big", "float64", (3, 4), 96), ("a", "float32", (10,), 40), ("b", "float32", (10,), 40)]


def _torch_flops(function: Callable[..., object], *shapes: Sequence[int]) -> int:
    with FlopCounterMode(display=False) as counter:
        function(*(torch.zeros(*shape) for shape in shapes))
    return int(counter.get_total_flops())


f = torch.nn.functional

COUNTED_BY_TORCH: dict[str, tuple[onnx.NodeProto, list[list[int]], Callable[..., object]]] = {
    "conv": (
        helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1]),
        [[2, 6, 15, 13], [8, 6, 3, 3]],
        lambda x, w: f.conv2d(x, w, stride=2, padding=1),
    ),
    "grouped conv": (
        helper.make_node("Conv", ["x", "w"], ["y"], group=3),
        [[1, 6, 9, 9], [12, 2, 3, 5]],
        lambda x, w: f.conv2d(x, w, groups=3),
    ),
    "conv 1d": (
        helper.make_node("Conv", ["x", "w"], ["y"], dilations=[2]),
        [[3, 4, 50], [5, 4, 7]],
        lambda x, w: f.conv1d(x, w, dilation=2),
    ),
    "transposed conv": (
        helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2]),
        [[2, 6, 7, 5], [6, 8, 3, 3]],
        lambda x, w: f.conv_transpose2d(x, w, stride=2),
    ),
    "gemm": (
        helper.make_node("Gemm", ["x", "w"], ["y"], transA=1, transB=1),
        [[7, 5], [11, 7]],
        lambda x, w: x.T @ w.T,
    ),
    "matmul": (helper.make_node("MatMul", ["x", "w"], ["y"]), [[5, 7], [7, 3]], torch.matmul),
    "batched matmul": (
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        [[2, 3, 5, 7], [2, 3, 7, 4]],
        torch.matmul,
    ),
    "einsum": (
        helper.make_node("Einsum", ["x", "w"], ["y"], equation="bij, bjk -> bik"),
        [[2, 5, 7], [2, 7, 3]],
        lambda x, w: torch.einsum("bij,bjk->bik", x, w),
    ),
    "attention with a dim for heads": (
        helper.make_node("Attention", ["x", "w", "w"], ["y"]),
        [[2, 4, 6, 8], [2, 4, 10, 8]],
        lambda q, kv: (q @ kv.mT) @ kv,
    ),
}


@pytest.mark.parametrize(
    ("node", "shapes", "function"), COUNTED_BY_TORCH.values(), ids=COUNTED_BY_TORCH.keys()
)
def test_products_cost_what_torch_counts(
    node: onnx.NodeProto, shapes: list[list[int]], function: Callable[..., object]
) -> None:
    expected = _torch_flops(function, *shapes)
    cost = estimate_flops(_model([node], {"x": shapes[0], "w": shapes[1]}))
    assert expected > 0
    assert cost.flops == expected
    assert cost.uncounted == 0


@pytest.mark.parametrize(("op", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_recurrent_operators(op: str, gates: int) -> None:
    steps, batch, size, hidden, directions = 7, 2, 5, 3, 2
    node = helper.make_node(op, ["x", "w", "r"], ["y"], hidden_size=hidden, direction="bidirectional")
    weights = {
        "w": _zeros(directions, gates * hidden, size),
        "r": _zeros(directions, gates * hidden, hidden),
    }
    cost = estimate_flops(_model([node], {"x": [steps, batch, size]}, weights))
    assert cost.flops == 2 * steps * batch * directions * gates * hidden * (size + hidden)


def test_einsum_with_broadcast_dims() -> None:
    node = helper.make_node("Einsum", ["x", "w"], ["y"], equation="...ij,...jk->...ik")
    assert (
        estimate_flops(_model([node], {"x": [6, 1, 2, 3], "w": [1, 5, 3, 4]})).flops == 2 * 6 * 5 * 2 * 3 * 4
    )


def test_elementwise_operators_cost_their_elements_and_moving_data_costs_none() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("ReduceSum", ["a"], ["b"], keepdims=1),
        helper.make_node("Transpose", ["x"], ["c"]),
        helper.make_node("Identity", ["b"], ["y"]),
    ]
    cost = estimate_flops(_model(nodes, {"x": [4, 5]}))
    assert cost.flops == 20 + 20
    assert cost.bytes_moved == 4 * ((20 + 20) + (20 + 1) + (20 + 20) + (1 + 1))


def test_dynamic_dims_count_as_one_unless_given() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Add", ["a", "z"], ["y"])]
    model = _model(nodes, {"x": ["N", 4], "z": ["N", 1]}, {"w": _zeros(4, 3)})
    one = estimate_flops(model)
    assert one.flops == 2 * 12 + 3
    assert one.assumed == {"x": (1, 4), "z": (1, 1)}
    nine = estimate_flops(model, {"x": (9, 4)})
    assert nine.flops == 9 * one.flops
    assert nine.assumed == {"z": (9, 1)}
    assert str(model.graph.inputs[0].shape) == "[N,4]"


@pytest.mark.parametrize("dim", [None, -1])
def test_nameless_dims_are_unrelated(dim: int | None) -> None:
    model = _model([helper.make_node("Add", ["x", "z"], ["y"])], {"x": [dim, 4], "z": [dim, 1]})
    cost = estimate_flops(model, {"x": (9, 4)})
    assert cost.assumed == {"z": (1, 1)}
    assert cost.flops == 36


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"q": (1,)}, "no input is named 'q'"),
        ({"x": (1, 2, 3)}, "rank 3"),
        ({"x": (1, 5)}, "has 5 where the model has 4"),
    ],
)
def test_shapes_that_do_not_fit(shapes: dict[str, tuple[int, ...]], said: str) -> None:
    model = _model([helper.make_node("Relu", ["x"], ["y"])], {"x": ["N", 4]})
    with pytest.raises(OptionError, match=said):
        estimate_flops(model, shapes)


def test_nodes_of_unknown_shape_are_reported_not_guessed() -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["a"]), helper.make_node("Cast", ["a"], ["y"], to=1)]
    cost = estimate_flops(_model(nodes, {"x": [4]}))
    assert (cost.flops, cost.uncounted) == (0, 2)


def test_calls_of_local_functions_are_counted_by_their_bodies() -> None:
    function = helper.make_function(
        "local",
        "F",
        ["a"],
        ["b"],
        [helper.make_node("MatMul", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 23)],
    )
    calls = [
        helper.make_node("F", ["x"], ["t"], domain="local"),
        helper.make_node("F", ["t"], ["y"], domain="local"),
    ]
    assert estimate_flops(_model(calls, {"x": [3, 3]}, functions=[function])).flops == 2 * 2 * 27
