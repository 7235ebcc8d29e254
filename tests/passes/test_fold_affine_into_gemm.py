"""fold_affine_into_gemm: what fires, and each precondition broken once."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.helpers import assert_same_answers, f32, rewrite
from tests.passes import folds
from tests.passes.breaks import BREAKS, Break
from tests.passes.folds import FORMS, assert_fires, assert_keeps_out

RULE = "fold_affine_into_gemm"
NOT_PER_COLUMN = {  # shape of the constant: why it must stay
    (6, 1): "one per row",
    (6, 6): "varies along both axes",
    (1, 1, 1): "raises the rank",
    (1, 1, 6): "raises the rank",
}


@pytest.mark.parametrize(("op_type", "first"), FORMS)
@pytest.mark.parametrize("shape", [(), (1,), (6,), (1, 1), (1, 6)], ids=str)
def test_fires_on_every_operator_order_and_shape(op_type: str, first: bool, shape: tuple[int, ...]) -> None:
    constant = np.resize(folds.per_channel(folds.gemm()), shape)
    tail = folds.arithmetic(op_type, constant, constant_first=first)
    assert assert_fires(folds.build(folds.gemm(), tail), RULE).ops == {"Gemm": 1}


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, -2.0), (1.0, 0.0)])
@pytest.mark.parametrize("bias", [None, (), (1,), (6,), (1, 1), (1, 6)], ids=str)
@pytest.mark.parametrize("op_type", ["Add", "Mul"])
def test_fires_with_any_scalars_and_row(
    trans_b: int, alpha: float, beta: float, bias: tuple[int, ...] | None, op_type: str
) -> None:
    layer = folds.gemm(trans_b=trans_b, alpha=alpha, beta=beta, bias=bias)
    assert_fires(folds.build(layer, folds.arithmetic(op_type, folds.per_channel(layer))), RULE)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 21])
def test_fires_in_any_opset(opset: int) -> None:
    tail = folds.arithmetic("Sub", folds.per_channel(folds.gemm()), constant_first=True)
    assert_fires(folds.build(folds.gemm(), tail, opset=opset), RULE)


@pytest.mark.parametrize(("dtype", "rtol"), [(TensorProto.FLOAT16, 1e-2), (TensorProto.DOUBLE, 1e-13)])
def test_fires_on_other_floats(dtype: int, rtol: float) -> None:
    tail = folds.arithmetic("Div", folds.per_channel(folds.gemm()))
    assert_fires(folds.build(folds.gemm(), tail, dtype=dtype), RULE, rtol=rtol)


def test_fires_in_both_branches_of_an_if() -> None:
    model = folds.in_branches(folds.build(folds.gemm(), folds.arithmetic("Mul", f32(3))))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    for feeds in folds.flags(model):
        assert_same_answers(model, after.model, feeds)


def test_fires_in_a_function() -> None:
    model = folds.in_function(folds.build(folds.gemm(), folds.arithmetic("Mul", f32(3))))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model)


@pytest.mark.parametrize("break_", BREAKS)
def test_keeps_out(break_: Break) -> None:
    model, reason = break_(folds.gemm(), folds.arithmetic("Mul", folds.per_channel(folds.gemm())))
    assert_keeps_out(model, RULE, reason)


@pytest.mark.parametrize("shape", NOT_PER_COLUMN, ids=str)
@pytest.mark.parametrize("op_type", ["Add", "Mul"])
def test_keeps_out_of_constants_that_are_not_per_column(op_type: str, shape: tuple[int, ...]) -> None:
    tail = folds.arithmetic(op_type, np.full(shape, 3, np.float32))
    model = folds.build(folds.gemm(), tail, inputs={"x": [6, 4]})
    assert_keeps_out(model, RULE, "the constant is not one per channel")


@pytest.mark.parametrize("bias", [(6, 1), (6, 6)], ids=str)
def test_keeps_out_of_a_c_that_varies_along_the_rows(bias: tuple[int, ...]) -> None:
    tail = folds.arithmetic("Mul", f32(3))
    model = folds.build(folds.gemm(bias=bias), tail, inputs={"x": [6, 4]})
    assert_keeps_out(model, RULE, "the constant is not one per channel")


def test_keeps_out_of_a_constant_that_makes_more_columns() -> None:
    layer = folds.gemm(channels=1, bias=(1,))
    tail = folds.arithmetic("Mul", np.arange(1, 5, dtype=np.float32))
    assert_keeps_out(folds.build(layer, tail), RULE, "the constant is not one per channel")


def test_keeps_out_of_a_constant_divided_by_the_result() -> None:
    tail = folds.arithmetic("Div", f32(3), constant_first=True)
    assert_keeps_out(folds.build(folds.gemm(), tail), RULE, "")


def test_keeps_out_of_division_by_zero() -> None:
    model = folds.build(folds.gemm(), folds.arithmetic("Div", f32(0)))
    assert_keeps_out(model, RULE, "the folded weights do not fit float32")


@pytest.mark.parametrize("attributes", [{"broadcast": 1}, {"broadcast": 1, "axis": 0}], ids=str)
def test_before_opset_7_an_attribute_may_move_the_constant_to_the_rows(attributes: dict[str, int]) -> None:
    layer, tail = folds.gemm(), folds.arithmetic("Mul", folds.per_channel(folds.gemm()))
    layer.nodes[0].attribute.append(helper.make_attribute("broadcast", 1))
    tail.node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    after = rewrite(folds.build(layer, tail, inputs={"x": [6, 4]}, opset=6), RULE)  # nothing runs opset 6
    moved = "axis" in attributes
    assert after.fired == ({} if moved else {RULE: 1})
    assert after.declined[RULE] == ({"the constant is not one per channel": 1} if moved else {})
