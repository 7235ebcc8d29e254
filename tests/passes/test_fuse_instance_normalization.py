"""fuse_instance_normalization: the spellings that fuse, and each precondition broken once."""

from __future__ import annotations

import pytest
from onnx import TensorProto

from tests.helpers import rewrite
from tests.passes.fusions import (
    Spelling,
    assert_fuses,
    assert_fuses_in_both_branches,
    assert_needs_every_inner_value_to_itself,
    assert_stays,
)
from tests.passes.normalizations import KERAS, ROOTS, keras, standardized, with_affine

RULE = "fuse_instance_normalization"
DIMS = ("batch", 4, "height", "width")
LEAVES = {"InstanceNormalization": 1}
PLAIN = standardized([2, 3])


@pytest.mark.parametrize("square", ["Mul", "Pow"])
@pytest.mark.parametrize("root", ROOTS)
def test_fuses_any_root_and_square(root: str, square: str) -> None:
    assert_fuses(standardized([2, 3], root=root, square=square).model(DIMS), RULE, leaves=LEAVES)


@pytest.mark.parametrize("gamma", [False, True])
@pytest.mark.parametrize("form", KERAS)
def test_fuses_keras_forms(form: str, gamma: bool) -> None:
    spelling = keras([-1, -2], (1, 4, 1, 1), form, gamma=gamma, opset=18)
    assert_fuses(spelling.model(DIMS, opset=18), RULE, leaves=LEAVES)


def test_fuses_volumes() -> None:
    assert_fuses(standardized([2, 3, 4]).model(("batch", 4, 2, 3, 4)), RULE, leaves=LEAVES)


def test_takes_gamma_and_beta_together_with_the_fold() -> None:
    spelling = with_affine(PLAIN, (4, 1, 1))
    assert_fuses(spelling.model(DIMS), RULE, "fold_affine_into_normalization", leaves=LEAVES)


def test_fuses_instead_of_layer_normalization() -> None:
    after = rewrite(PLAIN.model(DIMS), RULE, "fuse_layer_normalization")
    assert after.fired == {RULE: 1}


@pytest.mark.parametrize("opset", [7, 13, 18, 22])
def test_fuses_in_any_opset_that_broadcasts(opset: int) -> None:
    assert_fuses(standardized([2, 3], opset=opset).model(DIMS, opset=opset), RULE, leaves=LEAVES)


def test_fuses_half_precision() -> None:
    assert_fuses(PLAIN.model(DIMS, dtype=TensorProto.FLOAT16), RULE, leaves=LEAVES, rtol=3e-3)


def test_fuses_in_both_branches_of_an_if() -> None:
    assert_fuses_in_both_branches(PLAIN, RULE, DIMS, 17)


def test_leaves_inner_values_that_are_outputs() -> None:
    assert_needs_every_inner_value_to_itself(PLAIN, RULE, DIMS, 17)


@pytest.mark.parametrize(
    ("axes", "dims"),
    [
        ([1], (2, 4, 3, 3)),
        ([1, 2, 3], (2, 4, 3, 3)),
        ([3], (2, 4, 3, 3)),
        ([2], (2, 4, 3)),
        ([0, 2, 3], (2, 4, 3, 3)),
    ],
)
def test_keeps_out_of_other_axes(axes: list[int], dims: tuple[int, ...]) -> None:
    assert_stays(standardized(axes).model(dims), RULE, "the axes are not the spatial ones")


def test_keeps_out_of_unknown_channels() -> None:
    model = PLAIN.model(("batch", "channels", 3, 3))
    assert_stays(model, RULE, "the size of the normalized axes is unknown")


def test_keeps_out_of_parameters_along_other_axes() -> None:
    model = keras([2, 3], (3,), "Neg").model(("batch", 4, 3, 3))
    assert_stays(model, RULE, "gamma varies along other axes")


def test_keeps_out_of_double_precision_without_a_kernel() -> None:
    model = PLAIN.model(DIMS, dtype=TensorProto.DOUBLE)
    assert_stays(model, RULE, "onnxruntime has no normalization of this dtype")


def test_keeps_out_of_an_epsilon_that_may_come_with_a_run() -> None:
    model = Spelling(PLAIN.nodes, PLAIN.weights).model(DIMS, overridable=["eps"])
    assert_stays(model, RULE, "")
