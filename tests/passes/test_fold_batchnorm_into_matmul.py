"""fold_batchnorm_into_matmul: what fires, and each precondition broken once."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.helpers import assert_same_answers, rewrite
from tests.passes import folds
from tests.passes.breaks import BREAKS, Break
from tests.passes.folds import assert_fires, assert_keeps_out

RULE = "fold_batchnorm_into_matmul"


@pytest.mark.parametrize("bias", [None, (), (1,), (6,), (1, 1), (1, 6)], ids=str)
@pytest.mark.parametrize("bias_first", [False, True])
def test_fires_with_any_bias_in_any_order(bias: tuple[int, ...] | None, bias_first: bool) -> None:
    layer = folds.matmul(bias=bias, bias_first=bias_first)
    after = assert_fires(folds.build(layer, folds.batch_norm(6)), RULE)
    assert after.ops == {"MatMul": 1, "Add": 1}


@pytest.mark.parametrize("opset", [7, 9, 13, 15, 21])
def test_fires_in_any_opset_with_inference_batch_norm(opset: int) -> None:
    assert_fires(folds.build(folds.matmul(), folds.batch_norm(6), opset=opset), RULE)


@pytest.mark.parametrize(("dtype", "rtol"), [(TensorProto.FLOAT16, 1e-2), (TensorProto.DOUBLE, 1e-13)])
def test_fires_on_other_floats(dtype: int, rtol: float) -> None:
    assert_fires(folds.build(folds.matmul(), folds.batch_norm(6), dtype=dtype), RULE, rtol=rtol)


def test_leaves_no_sum_where_nothing_is_added() -> None:
    tail = folds.batch_norm(6)
    tail.weights["beta"][:] = tail.weights["mean"][:] = 0
    assert assert_fires(folds.build(folds.matmul(bias=None), tail), RULE).ops == {"MatMul": 1}


def test_fires_in_both_branches_of_an_if() -> None:
    model = folds.in_branches(folds.build(folds.matmul(), folds.batch_norm(6)))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    for feeds in folds.flags(model):
        assert_same_answers(model, after.model, feeds)


@pytest.mark.parametrize("bias", [None, (6,)], ids=str)
@pytest.mark.parametrize("break_", BREAKS)
def test_keeps_out(break_: Break, bias: tuple[int, ...] | None) -> None:
    model, reason = break_(folds.matmul(bias=bias), folds.batch_norm(6))
    assert_keeps_out(model, RULE, reason)


def test_keeps_out_of_a_product_that_others_use_before_the_bias() -> None:
    relu = helper.make_node("Relu", ["p"], ["other"])
    model = folds.build(folds.matmul(), folds.batch_norm(6), more=[relu], outputs=["y", "other"])
    assert_keeps_out(model, RULE, "the result of MatMul has other users")


def test_keeps_out_of_a_product_of_higher_rank_whose_channels_are_not_the_columns() -> None:
    model = folds.build(folds.matmul(leading=("batch", 6)), folds.batch_norm(6))
    assert_keeps_out(model, RULE, "the product is not known to be a matrix")


def test_keeps_out_of_a_weight_of_higher_rank() -> None:
    layer = folds.matmul(bias=None)
    model = folds.build(
        layer, folds.batch_norm(3), weights={"w": np.ones((5, 4, 6), np.float32)}, inputs={"x": [3, 4]}
    )
    assert_keeps_out(model, RULE, "the weights or the bias vary along other axes")


@pytest.mark.parametrize("bias", [(6, 1), (6, 6)], ids=str)
def test_keeps_out_of_a_bias_that_varies_along_the_rows(bias: tuple[int, ...]) -> None:
    model = folds.build(folds.matmul(bias=bias), folds.batch_norm(6), inputs={"x": [6, 4]})
    assert_keeps_out(model, RULE, "the weights or the bias vary along other axes")


def test_keeps_out_of_a_bias_that_raises_the_rank() -> None:
    model = folds.build(folds.matmul(bias=(1, 1, 6)), folds.batch_norm(3), inputs={"x": [3, 4]})
    assert_keeps_out(model, RULE, "the weights or the bias vary along other axes")


def test_keeps_out_of_a_function_where_no_rank_is_known() -> None:
    model = folds.in_function(folds.build(folds.matmul(), folds.batch_norm(6)))
    assert_keeps_out(model, RULE, "the product is not known to be a matrix")


def test_keeps_out_of_training_mode() -> None:
    tail = folds.batch_norm(6, training_mode=1)
    tail.node.output.extend(["running_mean", "running_var"])
    model = folds.build(folds.matmul(), tail, opset=15)
    assert_keeps_out(model, RULE, "BatchNormalization in training mode")
