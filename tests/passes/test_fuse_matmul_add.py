"""fuse_matmul_add: what fires, and each precondition broken once."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers import assert_same_answers, make_model, rewrite
from tests.passes import folds
from tests.passes.folds import assert_fires, assert_keeps_out

RULE = "fuse_matmul_add"
NOT_A_ROW = {  # shape of the bias: why it must stay
    (6, 1): "one per row; Gemm could take it, but would then not be a linear layer",
    (6, 6): "varies along both axes",
    (1, 1, 6): "raises the rank",
    (1, 1, 1): "raises the rank",
}


def product(bias: tuple[int, ...], *, first: bool = False) -> folds.Layer:
    """A product and an Add that makes `c`."""
    return folds.matmul(bias=bias, bias_first=first)


def ends_in_relu(layer: folds.Layer, **options: object) -> onnx.ModelProto:
    """A model of the layer and Relu."""
    return folds.build(layer, folds.Tail(helper.make_node("Relu", ["c"], ["y"]), {}), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("bias", [(), (1,), (6,), (1, 1), (1, 6)], ids=str)
@pytest.mark.parametrize("first", [False, True])
def test_fires_on_any_row_in_any_order(bias: tuple[int, ...], first: bool) -> None:
    assert assert_fires(ends_in_relu(product(bias, first=first)), RULE).ops == {"Gemm": 1, "Relu": 1}


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 21])
def test_fires_in_any_opset_that_broadcasts(opset: int) -> None:
    assert_fires(ends_in_relu(product((6,)), opset=opset), RULE)


@pytest.mark.parametrize(("dtype", "rtol"), [(TensorProto.FLOAT16, 1e-2), (TensorProto.DOUBLE, 1e-14)])
def test_fires_on_other_floats(dtype: int, rtol: float) -> None:
    assert_fires(ends_in_relu(product((6,)), dtype=dtype), RULE, rtol=rtol)


def test_fires_where_the_sum_is_a_graph_output_and_keeps_its_name() -> None:
    assert_fires(ends_in_relu(product((6,)), outputs=["c", "y"]), RULE)


def test_fires_on_weights_that_come_with_each_run() -> None:
    assert_fires(ends_in_relu(product((6,)), inputs={"w": [4, 6]}), RULE)


def test_fires_on_shared_weights_which_stay_as_they_are() -> None:
    twin = helper.make_node("MatMul", ["x", "w"], ["other"])
    assert_fires(ends_in_relu(product((6,)), more=[twin], outputs=["y", "other"]), RULE)


def test_fires_in_both_branches_of_an_if() -> None:
    model = folds.in_branches(ends_in_relu(product((6,))))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    for feeds in folds.flags(model):
        assert_same_answers(model, after.model, feeds)


@pytest.mark.parametrize("shape", NOT_A_ROW, ids=str)
def test_keeps_out_of_biases_that_are_not_a_row(shape: tuple[int, ...]) -> None:
    model = ends_in_relu(product(shape), inputs={"x": [6, 4]})
    assert_keeps_out(model, RULE, "the bias is not one number for each column")


def test_keeps_out_of_a_bias_that_makes_more_columns() -> None:
    model = ends_in_relu(folds.matmul(channels=1))
    assert_keeps_out(model, RULE, "the bias is not one number for each column")


@pytest.mark.parametrize("leading", [(), ("batch", 2)], ids=str)
def test_keeps_out_of_vectors_and_stacks_of_matrices(leading: tuple[int | str, ...]) -> None:
    model = ends_in_relu(folds.matmul(leading=leading))
    assert_keeps_out(model, RULE, "the product is not known to be a matrix")


def test_keeps_out_of_a_function_where_no_rank_is_known() -> None:
    model = folds.in_function(ends_in_relu(product((6,))))
    assert_keeps_out(model, RULE, "the product is not known to be a matrix")


def test_keeps_out_of_weights_of_unknown_size() -> None:
    model = ends_in_relu(product((6,)), inputs={"w": [4, "columns"], "x": ["batch", 4]})
    feeds = {"x": np.ones((3, 4), np.float32), "w": np.ones((4, 1), np.float32)}
    assert_keeps_out(model, RULE, "the product is not known to be a matrix", feeds=feeds)


@pytest.mark.parametrize("options", [{"inputs": {"b": [6]}}, {"overridable": ["b"]}], ids=str)
def test_keeps_out_of_a_bias_that_may_come_with_a_run(options: dict[str, object]) -> None:
    assert_keeps_out(ends_in_relu(product((6,)), **options), RULE, "")


def test_keeps_out_of_a_product_with_other_users() -> None:
    other = helper.make_node("Relu", ["p"], ["other"])
    model = ends_in_relu(product((6,)), more=[other], outputs=["y", "other"])
    assert_keeps_out(model, RULE, "the result of MatMul has other users")


def test_keeps_out_of_a_product_that_is_a_graph_output() -> None:
    model = ends_in_relu(product((6,)), outputs=["y", "p"])
    assert_keeps_out(model, RULE, "the result of MatMul is a graph output")


def test_keeps_out_of_integers() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])]
    weights = {"w": np.arange(24, dtype=np.int32).reshape(4, 6), "b": np.arange(6, dtype=np.int32)}
    model = make_model(nodes, {"x": ["batch", 4]}, ["y"], weights, dtype=TensorProto.INT32)
    assert_keeps_out(model, RULE, "Gemm is for floats")


def test_keeps_out_before_opset_7_where_gemm_needs_an_attribute_to_broadcast() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["y"], broadcast=1),
    ]
    weights = {"w": np.ones((4, 6), np.float32), "b": np.ones(6, np.float32)}
    after = rewrite(make_model(nodes, {"x": ["batch", 4]}, ["y"], weights, opset=6), RULE)
    assert after.fired == {}
    assert after.declined[RULE] == {"Gemm does not broadcast before opset 7": 1}
