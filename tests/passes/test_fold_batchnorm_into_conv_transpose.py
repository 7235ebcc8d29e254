"""fold_batchnorm_into_conv_transpose: what fires, and each precondition broken once."""

from __future__ import annotations

import pytest
from onnx import TensorProto

from tests.helpers import assert_same_answers, rewrite
from tests.passes import folds
from tests.passes.breaks import BREAKS, Break
from tests.passes.folds import assert_fires, assert_keeps_out

RULE = "fold_batchnorm_into_conv_transpose"


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize(("group", "channels"), [(1, 4), (1, 6), (2, 6), (2, 4), (4, 4), (4, 8)])
@pytest.mark.parametrize("bias", [False, True])
def test_fires_in_any_dimension_and_grouping(spatial: int, group: int, channels: int, bias: bool) -> None:
    layer = folds.conv_transpose(spatial=spatial, group=group, channels=channels, bias=bias)
    after = assert_fires(folds.build(layer, folds.batch_norm(channels)), RULE)
    assert after.ops == {"ConvTranspose": 1}


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 15, 21])
def test_fires_in_any_opset_with_inference_batch_norm(opset: int) -> None:
    assert_fires(folds.build(folds.conv_transpose(), folds.batch_norm(8), opset=opset), RULE)


def test_fires_on_half_precision() -> None:
    model = folds.build(folds.conv_transpose(group=2), folds.batch_norm(8), dtype=TensorProto.FLOAT16)
    assert_fires(model, RULE, rtol=1e-2)


def test_fires_on_double() -> None:
    model = folds.build(folds.conv_transpose(group=2), folds.batch_norm(8), dtype=TensorProto.DOUBLE)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(folds.as_float32(model), folds.as_float32(after.model))


def test_fires_in_both_branches_of_an_if() -> None:
    model = folds.in_branches(folds.build(folds.conv_transpose(group=2), folds.batch_norm(8)))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    for feeds in folds.flags(model):
        assert_same_answers(model, after.model, feeds)


def test_fires_in_a_function() -> None:
    model = folds.in_function(folds.build(folds.conv_transpose(group=2), folds.batch_norm(8)))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model)


@pytest.mark.parametrize("break_", BREAKS)
def test_keeps_out(break_: Break) -> None:
    model, reason = break_(folds.conv_transpose(), folds.batch_norm(8))
    assert_keeps_out(model, RULE, reason)


def test_keeps_out_of_training_mode() -> None:
    tail = folds.batch_norm(8, training_mode=1)
    tail.node.output.extend(["running_mean", "running_var"])
    model = folds.build(folds.conv_transpose(), tail, opset=15)
    assert_keeps_out(model, RULE, "BatchNormalization in training mode")
