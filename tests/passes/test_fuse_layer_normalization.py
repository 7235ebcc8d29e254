"""fuse_layer_normalization: the spellings that fuse, and each precondition broken once."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from tests.helpers import f32, node, random_feeds, rewrite
from tests.passes.fusions import (
    Spelling,
    assert_fuses,
    assert_fuses_in_both_branches,
    assert_needs_every_inner_value_to_itself,
    assert_stays,
)
from tests.passes.normalizations import KERAS, ROOTS, keras, standardized, with_affine

RULE = "fuse_layer_normalization"
DIMS = ("batch", 5, 8)
LEAVES = {"LayerNormalization": 1}
PLAIN = standardized([-1])
OTHER_AXES = "the axes are not the last ones"


@pytest.mark.parametrize("commuted", [False, True])
@pytest.mark.parametrize("square", ["Mul", "Pow"])
@pytest.mark.parametrize("root", ROOTS)
def test_fuses_any_root_and_square(root: str, square: str, commuted: bool) -> None:
    spelling = standardized([-1], root=root, square=square)
    assert_fuses((spelling.commuted() if commuted else spelling).model(DIMS), RULE, leaves=LEAVES)


@pytest.mark.parametrize("commuted", [False, True])
@pytest.mark.parametrize("gamma", [False, True])
@pytest.mark.parametrize("form", KERAS)
def test_fuses_keras_forms(form: str, gamma: bool, commuted: bool) -> None:
    spelling = keras([2], (1, 1, 8), form, gamma=gamma, opset=18)
    spelling = spelling.commuted() if commuted else spelling
    assert_fuses(spelling.model(DIMS, opset=18), RULE, leaves=LEAVES)


@pytest.mark.parametrize(
    ("axes", "dims"),
    [([1, 2], DIMS), ([-1, -2], (2, 5, 8)), ([1, 2, 3], ("batch", 2, 3, 4)), ([3], (2, 2, 3, 4))],
)
def test_fuses_over_several_last_axes(axes: list[int], dims: tuple[int | str, ...]) -> None:
    assert_fuses(standardized(axes).model(dims), RULE, leaves=LEAVES)


def test_takes_gamma_and_beta_together_with_the_fold() -> None:
    spelling = with_affine(PLAIN, (8,))
    assert_fuses(spelling.model(DIMS), RULE, "fold_affine_into_normalization", leaves=LEAVES)


@pytest.mark.parametrize("opset", [17, 18, 21])
def test_fuses_from_opset_17_on(opset: int) -> None:
    assert_fuses(standardized([-1], opset=opset).model(DIMS, opset=opset), RULE, leaves=LEAVES)


def test_fuses_half_precision() -> None:
    assert_fuses(PLAIN.model(DIMS, dtype=TensorProto.FLOAT16), RULE, leaves=LEAVES, rtol=3e-3)


def test_keeps_what_is_not_a_number() -> None:
    model = PLAIN.model(DIMS)
    feeds = random_feeds(model)
    feeds["x"].flat[0] = np.nan
    feeds["x"].flat[9] = np.inf
    assert_fuses(model, RULE, leaves=LEAVES, feeds=feeds)


def test_fuses_in_both_branches_of_an_if() -> None:
    assert_fuses_in_both_branches(PLAIN, RULE, DIMS, 17)


@pytest.mark.parametrize("spelling", [PLAIN, keras([-1], (8,), "Neg")])
def test_leaves_inner_values_that_are_outputs(spelling: Spelling) -> None:
    assert_needs_every_inner_value_to_itself(spelling, RULE, DIMS, 17)


def test_keeps_out_before_opset_17() -> None:
    assert_stays(standardized([-1]).model(DIMS, opset=16), RULE, "LayerNormalization came with opset 17")


@pytest.mark.parametrize(
    ("axes", "dims"), [([1], (2, 5, 8)), ([0, 2], (2, 5, 8)), ([2, 3], (2, 3, 4, 4)), ([0], (5, 8))]
)
def test_keeps_out_of_other_axes(axes: list[int], dims: tuple[int, ...]) -> None:
    assert_stays(standardized(axes).model(dims), RULE, OTHER_AXES)


def test_keeps_out_where_mean_and_variance_are_over_different_axes() -> None:
    nodes = list(PLAIN.nodes)
    nodes[3] = node("ReduceMean", "dd", "v", axes=[1, 2])
    assert_stays(Spelling(tuple(nodes), PLAIN.weights).model(DIMS), RULE, OTHER_AXES)


def test_keeps_out_where_the_variance_is_of_another_value() -> None:
    nodes = list(PLAIN.nodes)
    nodes[2] = node("Mul", "x x", "dd")
    assert_stays(Spelling(tuple(nodes), PLAIN.weights).model(DIMS), RULE, "")


def test_keeps_out_of_an_unknown_size() -> None:
    model = PLAIN.model(("batch", 5, "width"))
    assert_stays(model, RULE, "the size of the normalized axes is unknown")


def test_keeps_out_of_parameters_along_other_axes() -> None:
    model = keras([2], (5, 1), "Neg").model(DIMS)
    assert_stays(model, RULE, "gamma varies along other axes")


def test_keeps_out_of_other_constants() -> None:
    spelling = standardized([-1], square="Pow")
    model = Spelling(spelling.nodes, {**spelling.weights, "two": f32(4)}).model(DIMS)
    assert_stays(model, RULE, "other constants")
    model = Spelling(PLAIN.nodes, {**PLAIN.weights, "eps": f32(np.full(5, 1e-3)[:, None])}).model(DIMS)
    assert_stays(model, RULE, "epsilon is not a single number")
    model = Spelling(PLAIN.nodes, {**PLAIN.weights, "eps": f32(-1e-9)}).model(DIMS)
    assert_stays(model, RULE, "epsilon is not a single number")


def test_keeps_out_of_double_precision_which_it_would_narrow() -> None:
    model = PLAIN.model(DIMS, dtype=TensorProto.DOUBLE)
    assert_stays(model, RULE, "onnxruntime has no normalization of this dtype")


def test_keeps_out_of_an_epsilon_that_may_come_with_a_run() -> None:
    assert_stays(PLAIN.model(DIMS, overridable=["eps"]), RULE, "")


def test_keeps_out_of_a_variance_as_a_difference_of_squares() -> None:
    nodes = (
        node("ReduceMean", "x", "mean", axes=[-1]),
        node("Sub", "x mean", "d"),
        node("Mul", "x x", "xx"),
        node("ReduceMean", "xx", "ms", axes=[-1]),
        node("Mul", "mean mean", "mm"),
        node("Sub", "ms mm", "v"),
        *PLAIN.nodes[4:],
    )
    assert rewrite(Spelling(nodes, PLAIN.weights).model(DIMS), RULE).fired == {}
