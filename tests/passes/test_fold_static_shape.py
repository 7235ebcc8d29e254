"""fold_static_shape: what is known, and what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.helpers import IR_VERSION, assert_same_answers, f32, make_model, rewrite

RULE = "fold_static_shape"
SPANS: list[dict[str, int]] = [
    {},
    {"start": 1},
    {"end": 2},
    {"start": -2},
    {"end": -1},
    {"start": -9, "end": 9},
    {"start": 2, "end": 1},
    {"start": 9},
]


def model_of(op_type: str, dims: list[int | str | None], **attributes: Any) -> onnx.ModelProto:
    """An operator that reads the shape of x, and Identity."""
    nodes = [
        helper.make_node(op_type, ["x"], ["s"], **attributes),
        helper.make_node("Identity", ["s"], ["y"]),
    ]
    return make_model(nodes, {"x": dims}, ["y"])


@pytest.mark.parametrize("span", SPANS, ids=str)
def test_folds_shape_with_any_span(span: dict[str, int]) -> None:
    model = model_of("Shape", [2, 3, 4], **span)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Identity": 1}
    assert_same_answers(model, after.model)


@pytest.mark.parametrize("dims", [[2, 3], [], [0, 5]], ids=str)
def test_folds_size(dims: list[int | str | None]) -> None:
    model = model_of("Size", dims)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    feeds = {"x": np.zeros(dims, np.float32)}  # type: ignore[arg-type]
    assert_same_answers(model, after.model, feeds)


@pytest.mark.parametrize("op_type", ["Shape", "Size"])
@pytest.mark.parametrize("dims", [["batch", 3], [None, 3]], ids=str)
def test_keeps_out_of_dims_that_vary(op_type: str, dims: list[int | str | None]) -> None:
    model = model_of(op_type, dims)
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined[RULE] == {"the shape is not static": 1}
    assert_same_answers(model, after.model)


def test_does_not_believe_what_the_file_declares_inside_the_graph() -> None:
    nodes = [
        helper.make_node("Concat", ["x", "x"], ["c"], axis=0),
        helper.make_node("Shape", ["c"], ["s"]),
        helper.make_node("Identity", ["s"], ["y"]),
    ]
    model = make_model(nodes, {"x": ["batch", 3]}, ["y"])
    model.graph.value_info.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, [7, 3]))
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert_same_answers(model, after.model)


def test_bodies_that_share_names_keep_their_own_shapes() -> None:
    def branch(name: str, copies: int) -> onnx.GraphProto:
        nodes = [
            helper.make_node("Concat", ["x"] * copies, ["t"], axis=0),
            helper.make_node("Shape", ["t"], ["s"]),
            helper.make_node("ConstantOfShape", ["s"], ["zeros"]),
            helper.make_node("Shape", ["zeros"], ["size"]),
            helper.make_node("Neg", ["size"], ["o"]),
        ]
        return helper.make_graph(
            nodes, name, [], [helper.make_tensor_value_info("o", TensorProto.INT64, [1])]
        )

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["flag"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=branch("then", 2), else_branch=branch("else", 3)),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [1])],
        [numpy_helper.from_array(f32(0), "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=IR_VERSION)
    for only in ([RULE], []):
        after = rewrite(model, *only)
        for sign in (1, -1):
            assert_same_answers(model, after.model, {"x": np.full(4, sign, np.float32)})


def test_a_function_that_shares_names_with_the_graph_keeps_its_own_shapes() -> None:
    inner = [
        helper.make_node("Concat", ["x", "x", "x"], ["t"], axis=0),
        helper.make_node("Shape", ["t"], ["s"]),
        helper.make_node("Neg", ["s"], ["y"]),
    ]
    outer = [
        helper.make_node("Concat", ["x", "x"], ["t"], axis=0),
        helper.make_node("Shape", ["t"], ["s"]),
        helper.make_node("Neg", ["s"], ["y"]),
    ]
    model = make_model(outer, {"x": [4]}, ["y"])
    model.functions.append(
        helper.make_function("test", "f", ["x"], ["y"], inner, [helper.make_opsetid("", 17)])
    )
    model.opset_import.append(helper.make_opsetid("test", 1))
    model.graph.node.append(helper.make_node("f", ["t"], ["z"], domain="test"))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.INT64, [1]))
    after = rewrite(model, RULE)
    assert after.fired[RULE] >= 1
    assert_same_answers(model, after.model)
