"""fuse_batch_normalization: what fires, and each precondition broken once."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.helpers import assert_same_answers, f32, node, random_feeds, rewrite
from tests.passes.folds import arithmetic, build, conv
from tests.passes.fusions import (
    Spelling,
    assert_fuses,
    assert_fuses_in_both_branches,
    assert_needs_every_inner_value_to_itself,
    assert_stays,
)

RULE = "fuse_batch_normalization"
DIMS = ("batch", 4, 3, 3)
LEAVES = {"BatchNormalization": 1}
RNG = np.random.default_rng(7)
PER_CHANNEL = {"s": f32(RNG.uniform(-2, 2, (1, 4, 1, 1))), "t": f32(RNG.normal(size=(4, 1, 1)))}


def steps(first: str, second: str, **weights: np.ndarray) -> Spelling:
    """x combined with s by one operator, and that with t by another."""
    return Spelling((node(first, "x s", "m"), node(second, "m t", "y")), {**PER_CHANNEL, **weights})


AFFINE = steps("Mul", "Add")


@pytest.mark.parametrize("commuted", [False, True])
@pytest.mark.parametrize("first", ["Mul", "Div"])
@pytest.mark.parametrize("second", ["Add", "Sub"])
def test_fuses_a_factor_and_a_shift(first: str, second: str, commuted: bool) -> None:
    spelling = steps(first, second)
    assert_fuses((spelling.commuted() if commuted else spelling).model(DIMS), RULE, leaves=LEAVES)


@pytest.mark.parametrize("first", ["Add", "Sub"])
@pytest.mark.parametrize("second", ["Mul", "Div"])
def test_fuses_a_shift_and_a_factor(first: str, second: str) -> None:
    assert_fuses(steps(first, second).model(DIMS), RULE, leaves=LEAVES)


@pytest.mark.parametrize("dims", [("batch", 4, 5), ("batch", 4, "height", "width"), (2, 4, 3, 3, 3)])
def test_fuses_signals_images_and_volumes(dims: tuple[int | str, ...]) -> None:
    shape = (4, *(1,) * (len(dims) - 2))
    weights = {name: array.reshape(shape) for name, array in PER_CHANNEL.items()}
    assert_fuses(steps("Mul", "Add", **weights).model(dims), RULE, leaves=LEAVES)


def test_fuses_constants_for_all_channels() -> None:
    assert_fuses(steps("Mul", "Add", s=f32([0.7])).model(DIMS), RULE, leaves=LEAVES)
    assert_fuses(steps("Mul", "Add", s=f32(-0.7), t=f32([[[3]]])).model(DIMS), RULE, leaves=LEAVES)


@pytest.mark.parametrize("opset", [7, 9, 13, 14, 15, 21])
def test_fuses_in_any_opset_that_broadcasts(opset: int) -> None:
    assert_fuses(AFFINE.model(DIMS, opset=opset), RULE, leaves=LEAVES)


@pytest.mark.parametrize(("dtype", "rtol"), [(TensorProto.DOUBLE, 2e-8), (TensorProto.FLOAT16, 2e-3)])
def test_fuses_other_floats(dtype: int, rtol: float) -> None:
    assert_fuses(AFFINE.model(DIMS, dtype=dtype), RULE, leaves=LEAVES, rtol=rtol)


def test_gives_single_precision_the_same_numbers() -> None:
    assert_fuses(AFFINE.model(DIMS), RULE, leaves=LEAVES, rtol=2e-7)


def test_keeps_what_is_not_a_number() -> None:
    model = AFFINE.model(DIMS)
    feeds = random_feeds(model)
    feeds["x"].flat[:3] = np.nan, np.inf, -np.inf
    assert_fuses(model, RULE, leaves=LEAVES, feeds=feeds)


def test_fuses_in_both_branches_of_an_if() -> None:
    assert_fuses_in_both_branches(AFFINE, RULE, DIMS, 17)


def test_comes_after_the_folds_and_does_not_disturb_them() -> None:
    layer = conv()
    model = build(layer, arithmetic("Mul", np.full((8, 1, 1), 1.5)))
    model.graph.node.append(node("Add", "y k", "z"))
    model.graph.output[0].name = "z"
    after = rewrite(model)
    assert after.ops == {"Conv": 1}
    assert_same_answers(model, after.model)


def test_leaves_inner_values_that_are_outputs() -> None:
    assert_needs_every_inner_value_to_itself(AFFINE, RULE, DIMS, 17)


@pytest.mark.parametrize("dims", [("batch", 4), ("batch", "channels", 3, 3)])
def test_keeps_out_where_channels_are_unknown(dims: tuple[int | str, ...]) -> None:
    model = steps("Mul", "Add", s=f32([0.5]), t=f32([2])).model(dims)
    assert_stays(model, RULE, "the channels are unknown")


@pytest.mark.parametrize("shape", [(3,), (1, 1, 3, 1), (3, 3), (1, 4, 3, 3), (2, 1, 1, 1)], ids=str)
def test_keeps_out_of_constants_that_vary_along_other_axes(shape: tuple[int, ...]) -> None:
    model = steps("Mul", "Add", s=f32(RNG.normal(size=shape))).model((2, 4, 3, 3))
    assert_stays(model, RULE, "the constant is not one per channel")


def test_keeps_out_of_constants_that_make_more_channels() -> None:
    assert_stays(AFFINE.model(("batch", 1, 3, 3)), RULE, "the constant is not one per channel")


def test_keeps_out_of_integers() -> None:
    weights = {name: np.ones((4, 1, 1), np.int64) for name in "st"}
    model = steps("Mul", "Add", **weights).model(DIMS, dtype=TensorProto.INT64)
    assert_stays(model, RULE, "onnxruntime has no BatchNormalization of this dtype")


def test_keeps_out_of_division_by_zero() -> None:
    model = steps("Div", "Add", s=f32(np.zeros((4, 1, 1)))).model(DIMS)
    assert_stays(model, RULE, "the folded weights do not fit float32")


def test_keeps_out_of_constants_that_may_come_with_a_run() -> None:
    for name in "st":
        assert_stays(AFFINE.model(DIMS, overridable=[name]), RULE, "")


def test_keeps_out_of_a_constant_minus_x() -> None:
    nodes = (node("Mul", "x s", "m"), node("Sub", "t m", "y"))
    assert_stays(Spelling(nodes, PER_CHANNEL).model(DIMS), RULE, "")


def test_keeps_out_of_single_steps() -> None:
    model: onnx.ModelProto = Spelling((node("Mul", "x s", "y"),), {"s": PER_CHANNEL["s"]}).model(DIMS)
    assert_stays(model, RULE, "")
