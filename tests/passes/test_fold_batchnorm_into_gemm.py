"""fold_batchnorm_into_gemm: what fires, and each precondition broken once."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

from tests.helpers import assert_same_answers, rewrite
from tests.passes import folds
from tests.passes.breaks import BREAKS, Break
from tests.passes.folds import assert_fires, assert_keeps_out

RULE = "fold_batchnorm_into_gemm"


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 1.0), (1.0, -2.0), (3.0, 0.25), (1.0, 0.0)])
@pytest.mark.parametrize("bias", [None, (), (1,), (6,), (1, 1), (1, 6)], ids=str)
def test_fires_with_any_scalars_and_row(
    trans_b: int, alpha: float, beta: float, bias: tuple[int, ...] | None
) -> None:
    layer = folds.gemm(trans_b=trans_b, alpha=alpha, beta=beta, bias=bias)
    after = assert_fires(folds.build(layer, folds.batch_norm(6)), RULE)
    assert after.ops == {"Gemm": 1}


def test_fires_with_a_transposed_input() -> None:
    layer = folds.gemm()
    layer.nodes[0].attribute.append(helper.make_attribute("transA", 1))
    assert_fires(folds.build(layer, folds.batch_norm(6), inputs={"x": [4, "batch"]}), RULE)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 15, 21])
def test_fires_in_any_opset_with_inference_batch_norm(opset: int) -> None:
    assert_fires(folds.build(folds.gemm(), folds.batch_norm(6), opset=opset), RULE)


@pytest.mark.parametrize(("dtype", "rtol"), [(TensorProto.FLOAT16, 1e-2), (TensorProto.DOUBLE, 1e-13)])
def test_fires_on_other_floats(dtype: int, rtol: float) -> None:
    assert_fires(folds.build(folds.gemm(), folds.batch_norm(6), dtype=dtype), RULE, rtol=rtol)


def test_fires_in_both_branches_of_an_if() -> None:
    model = folds.in_branches(folds.build(folds.gemm(trans_b=1), folds.batch_norm(6)))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    for feeds in folds.flags(model):
        assert_same_answers(model, after.model, feeds)


def test_fires_in_a_function() -> None:
    model = folds.in_function(folds.build(folds.gemm(), folds.batch_norm(6)))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model)


@pytest.mark.parametrize("break_", BREAKS)
def test_keeps_out(break_: Break) -> None:
    model, reason = break_(folds.gemm(), folds.batch_norm(6))
    assert_keeps_out(model, RULE, reason)


@pytest.mark.parametrize("bias", [(6, 1), (6, 6)], ids=str)
def test_keeps_out_of_a_c_that_varies_along_the_rows(bias: tuple[int, ...]) -> None:
    model = folds.build(folds.gemm(bias=bias), folds.batch_norm(6), inputs={"x": [6, 4]})
    assert_keeps_out(model, RULE, "C is not one row")


def test_keeps_out_of_training_mode() -> None:
    tail = folds.batch_norm(6, training_mode=1)
    tail.node.output.extend(["running_mean", "running_var"])
    assert_keeps_out(folds.build(folds.gemm(), tail, opset=15), RULE, "BatchNormalization in training mode")
