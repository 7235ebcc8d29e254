"""fold_affine_into_matmul: what fires, and each precondition broken once."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.helpers import assert_same_answers, f32, make_model, rewrite
from tests.passes import folds
from tests.passes.breaks import BREAKS, Break
from tests.passes.folds import FORMS, assert_fires, assert_keeps_out

RULE = "fold_affine_into_matmul"
NOT_PER_COLUMN = {  # shape of the constant: why it must stay
    (6, 1): "one per row",
    (1, 6, 1): "one per row",
    (6, 6): "varies along two axes",
    (1, 1, 1, 6): "raises the rank",
}


@pytest.mark.parametrize(("op_type", "first"), FORMS)
@pytest.mark.parametrize("shape", [(), (1,), (6,), (1, 6), (1, 1, 6)], ids=str)
@pytest.mark.parametrize("bias_first", [False, True])
def test_fires_on_every_operator_order_and_shape(
    op_type: str, first: bool, shape: tuple[int, ...], bias_first: bool
) -> None:
    layer = folds.matmul(leading=("batch", 6), bias_first=bias_first)
    tail = folds.arithmetic(op_type, np.resize(folds.per_channel(layer), shape), constant_first=first)
    assert assert_fires(folds.build(layer, tail), RULE).ops == {"MatMul": 1, "Add": 1}


@pytest.mark.parametrize("leading", [(), ("batch",), ("batch", 6), (2, "batch", 6)], ids=str)
@pytest.mark.parametrize("bias", [None, (), (1,), (6,)], ids=str)
def test_fires_on_any_rank_with_any_bias(
    leading: tuple[int | str, ...], bias: tuple[int, ...] | None
) -> None:
    layer = folds.matmul(leading=leading, bias=bias)
    after = assert_fires(folds.build(layer, folds.arithmetic("Mul", folds.per_channel(layer))), RULE)
    assert after.ops == ({"MatMul": 1} if bias is None else {"MatMul": 1, "Add": 1})


@pytest.mark.parametrize("opset", [7, 9, 13, 21])
def test_fires_in_any_opset(opset: int) -> None:
    tail = folds.arithmetic("Sub", folds.per_channel(folds.matmul()), constant_first=True)
    assert_fires(folds.build(folds.matmul(), tail, opset=opset), RULE)


@pytest.mark.parametrize(("dtype", "rtol"), [(TensorProto.FLOAT16, 1e-2), (TensorProto.DOUBLE, 1e-13)])
def test_fires_on_other_floats(dtype: int, rtol: float) -> None:
    tail = folds.arithmetic("Div", folds.per_channel(folds.matmul()))
    assert_fires(folds.build(folds.matmul(), tail, dtype=dtype), RULE, rtol=rtol)


def test_fires_in_both_branches_of_an_if() -> None:
    model = folds.in_branches(folds.build(folds.matmul(), folds.arithmetic("Mul", f32(3))))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    for feeds in folds.flags(model):
        assert_same_answers(model, after.model, feeds)


@pytest.mark.parametrize("shape", [(), (6,)], ids=str)
def test_fires_in_a_function_where_no_rank_is_known(shape: tuple[int, ...]) -> None:
    model = folds.in_function(
        folds.build(folds.matmul(), folds.arithmetic("Mul", np.full(shape, 3, np.float32)))
    )
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model)


def test_keeps_out_of_a_function_where_the_constant_may_raise_the_rank() -> None:
    model = folds.in_function(
        folds.build(folds.matmul(), folds.arithmetic("Mul", np.full((1, 6), 3, np.float32)))
    )
    assert_keeps_out(model, RULE, "the constant is not one per channel")


@pytest.mark.parametrize("bias", [None, (6,)], ids=str)
@pytest.mark.parametrize("break_", BREAKS)
def test_keeps_out(break_: Break, bias: tuple[int, ...] | None) -> None:
    layer = folds.matmul(bias=bias)
    model, reason = break_(layer, folds.arithmetic("Mul", folds.per_channel(layer)))
    assert_keeps_out(model, RULE, reason)


@pytest.mark.parametrize("shape", NOT_PER_COLUMN, ids=str)
@pytest.mark.parametrize("op_type", ["Add", "Mul"])
def test_keeps_out_of_constants_that_are_not_per_column(op_type: str, shape: tuple[int, ...]) -> None:
    tail = folds.arithmetic(op_type, np.full(shape, 3, np.float32))
    model = folds.build(folds.matmul(leading=("batch", 6)), tail)
    assert_keeps_out(model, RULE, "the constant is not one per channel")


@pytest.mark.parametrize("bias", [(6, 1), (6, 6), (1, 1, 6)], ids=str)
def test_keeps_out_of_a_bias_that_varies_along_the_rows_or_raises_the_rank(bias: tuple[int, ...]) -> None:
    model = folds.build(folds.matmul(bias=bias), folds.arithmetic("Mul", f32(3)), inputs={"x": [6, 4]})
    assert_keeps_out(model, RULE, "the constant is not one per channel")


def test_keeps_out_of_a_weight_of_higher_rank() -> None:
    layer = folds.matmul(bias=None)
    tail = folds.arithmetic("Mul", f32(3))
    model = folds.build(layer, tail, weights={"w": np.ones((5, 4, 6), np.float32)})
    assert_keeps_out(model, RULE, "the constant is not one per channel")


@pytest.mark.parametrize("op_type", ["Add", "Sub"])
def test_a_sum_without_another_is_the_bias_itself(op_type: str) -> None:
    layer = folds.matmul(bias=None)
    model = folds.build(layer, folds.arithmetic(op_type, folds.per_channel(layer)))
    assert_keeps_out(model, RULE, "")


def test_keeps_out_of_integers() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["c"]), helper.make_node("Div", ["c", "k"], ["y"])]
    weights = {"w": np.arange(24, dtype=np.int32).reshape(4, 6), "k": np.array(3, np.int32)}
    model = make_model(nodes, {"x": ["batch", 4]}, ["y"], weights, dtype=TensorProto.INT32)
    assert_keeps_out(model, RULE, "the constant is not one per channel")


def test_keeps_out_of_a_constant_divided_by_the_result() -> None:
    tail = folds.arithmetic("Div", f32(3), constant_first=True)
    assert_keeps_out(folds.build(folds.matmul(), tail), RULE, "")


def test_keeps_out_of_division_by_zero() -> None:
    model = folds.build(folds.matmul(), folds.arithmetic("Div", f32(0)))
    assert_keeps_out(model, RULE, "the folded weights do not fit float32")


def test_keeps_out_before_opset_7_where_a_sum_needs_an_attribute_to_broadcast() -> None:
    layer, tail = folds.matmul(), folds.arithmetic("Mul", np.float32(3))
    for node in (layer.nodes[1], tail.node):
        node.attribute.append(helper.make_attribute("broadcast", 1))
    after = rewrite(folds.build(layer, tail, opset=6), RULE)  # nothing runs opset 6
    assert after.fired == {}
    assert after.declined[RULE] == {"the constant is not one per channel": 1}
