"""fold_affine_into_conv: what fires, and each precondition broken once."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from tests.helpers import assert_same_answers, f32, rewrite
from tests.passes import folds
from tests.passes.breaks import BREAKS, Break
from tests.passes.folds import FORMS, assert_fires, assert_keeps_out

RULE = "fold_affine_into_conv"
SHAPES = [(), (1,), (1, 1, 1, 1), (8, 1, 1), (1, 8, 1, 1)]
NOT_PER_CHANNEL = {  # shape of the constant, for as many channels as columns: why it must stay
    (6,): "aligns with the last axis, not with the channels",
    (6, 1): "aligns with the rows",
    (1, 6, 1, 6): "varies along two axes",
    (3, 1, 1, 1): "varies along the batch",
    (1, 1, 1, 1, 1): "raises the rank",
    (1, 1, 6, 1, 1): "raises the rank",
}


@pytest.mark.parametrize(("op_type", "first"), FORMS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fires_on_every_operator_order_and_shape(op_type: str, first: bool, shape: tuple[int, ...]) -> None:
    constant = np.resize(folds.per_channel(folds.conv()), shape)
    tail = folds.arithmetic(op_type, constant, constant_first=first)
    assert_fires(folds.build(folds.conv(), tail), RULE)


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("op_type", ["Add", "Mul"])
def test_fires_in_any_dimension_and_grouping(spatial: int, group: int, bias: bool, op_type: str) -> None:
    layer = folds.conv(spatial=spatial, group=group, bias=bias)
    assert_fires(folds.build(layer, folds.arithmetic(op_type, folds.per_channel(layer))), RULE)


@pytest.mark.parametrize("opset", [7, 11, 13, 21])
def test_fires_in_any_opset(opset: int) -> None:
    tail = folds.arithmetic("Sub", folds.per_channel(folds.conv()), constant_first=True)
    assert_fires(folds.build(folds.conv(), tail, opset=opset), RULE)


def test_fires_on_half_precision() -> None:
    tail = folds.arithmetic("Div", folds.per_channel(folds.conv()))
    assert_fires(folds.build(folds.conv(), tail, dtype=TensorProto.FLOAT16), RULE, rtol=1e-2)


@pytest.mark.parametrize(("dtype", "rtol"), [(TensorProto.DOUBLE, 1e-5), (TensorProto.BFLOAT16, 3e-2)])
def test_fires_on_types_that_onnxruntime_cannot_run(dtype: int, rtol: float) -> None:
    model = folds.build(folds.conv(), folds.arithmetic("Mul", folds.per_channel(folds.conv())), dtype=dtype)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert {tensor.data_type for tensor in after.model.graph.initializer} == {dtype}
    assert_same_answers(folds.as_float32(model), folds.as_float32(after.model), rtol=rtol)


def test_fires_in_both_branches_of_an_if() -> None:
    model = folds.in_branches(folds.build(folds.conv(), folds.arithmetic("Mul", f32(3))))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    for feeds in folds.flags(model):
        assert_same_answers(model, after.model, feeds)


def test_fires_in_a_function() -> None:
    model = folds.in_function(folds.build(folds.conv(), folds.arithmetic("Mul", f32(3))))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model)


@pytest.mark.parametrize("break_", BREAKS)
def test_keeps_out(break_: Break) -> None:
    tail = folds.arithmetic("Mul", folds.per_channel(folds.conv()))
    model, reason = break_(folds.conv(), tail)
    assert_keeps_out(model, RULE, reason)


@pytest.mark.parametrize("shape", NOT_PER_CHANNEL, ids=str)
@pytest.mark.parametrize("op_type", ["Add", "Mul"])
def test_keeps_out_of_constants_that_are_not_per_channel(op_type: str, shape: tuple[int, ...]) -> None:
    layer = folds.conv(channels=6)
    tail = folds.arithmetic(op_type, folds.per_channel(layer).ravel()[0] * np.ones(shape, np.float32))
    model = folds.build(layer, tail, inputs={"x": [3, *layer.dims[1:]]})
    assert_keeps_out(model, RULE, "the constant is not one per channel")


def test_keeps_out_of_a_constant_that_makes_more_channels() -> None:
    layer = folds.conv(channels=1)
    tail = folds.arithmetic("Mul", np.arange(1, 5, dtype=np.float32).reshape(4, 1, 1))
    assert_keeps_out(folds.build(layer, tail), RULE, "the constant is not one per channel")


def test_keeps_out_of_a_constant_divided_by_the_result() -> None:
    tail = folds.arithmetic("Div", f32(3), constant_first=True)
    assert_keeps_out(folds.build(folds.conv(), tail), RULE, "")


@pytest.mark.parametrize("constant", [f32(0), np.float32(np.nan), f32(1e-38)], ids=str)
def test_keeps_out_of_a_divisor_without_a_finite_inverse(constant: np.ndarray) -> None:
    layer = folds.conv()
    layer.weights["w"][:] *= 1e3
    model = folds.build(layer, folds.arithmetic("Div", np.asarray(constant)))
    assert_keeps_out(model, RULE, "the folded weights do not fit float32")
