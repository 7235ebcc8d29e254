"""fuse_rms_normalization: the spellings that fuse, and each precondition broken once."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto

from tests.helpers import f32, node
from tests.passes.fusions import (
    Spelling,
    assert_fuses,
    assert_fuses_in_both_branches,
    assert_needs_every_inner_value_to_itself,
    assert_stays,
)
from tests.passes.normalizations import ROOTS, over_root_mean_square, standardized

RULE = "fuse_rms_normalization"
DIMS = ("batch", 5, 8)
LEAVES = {"RMSNormalization": 1}
PLAIN = over_root_mean_square([-1])
GAMMA = f32([1, -2, 3, 0.5, 1.5, -1, 2, 0.1])


def times_gamma(*, inside: bool) -> Spelling:
    """The weight times the result, or as Keras has it, times the factor."""
    inner = over_root_mean_square([-1], root="times Reciprocal").nodes
    last = [node("Mul", "inverse gamma", "f"), node("Mul", "x f", "y")]
    if not inside:
        last = [node("Mul", "x inverse", "n"), node("Mul", "n gamma", "y")]
    return Spelling((*inner[:-1], *last), {**PLAIN.weights, "gamma": GAMMA})


def model(spelling: Spelling, *, dims: tuple[int | str, ...] = DIMS, **options: int) -> onnx.ModelProto:
    return spelling.model(dims, **{"opset": 23, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("commuted", [False, True])
@pytest.mark.parametrize("square", ["Mul", "Pow"])
@pytest.mark.parametrize("root", ROOTS)
def test_fuses_any_root_and_square(root: str, square: str, commuted: bool) -> None:
    spelling = over_root_mean_square([-1], root=root, square=square)
    assert_fuses(model(spelling.commuted() if commuted else spelling), RULE, leaves=LEAVES)


def test_takes_gamma() -> None:
    assert_fuses(model(times_gamma(inside=True)), RULE, leaves=LEAVES)
    outside = model(times_gamma(inside=False))
    assert_fuses(outside, RULE, "fold_affine_into_normalization", leaves=LEAVES)


def test_fuses_over_several_last_axes() -> None:
    assert_fuses(model(over_root_mean_square([1, 2])), RULE, leaves=LEAVES)


def test_fuses_half_precision() -> None:
    assert_fuses(model(PLAIN, dtype=TensorProto.FLOAT16), RULE, leaves=LEAVES, rtol=3e-3)


def test_fuses_in_both_branches_of_an_if() -> None:
    assert_fuses_in_both_branches(PLAIN, RULE, DIMS, 23)


def test_leaves_inner_values_that_are_outputs() -> None:
    assert_needs_every_inner_value_to_itself(PLAIN, RULE, DIMS, 23)


def test_keeps_out_before_opset_23() -> None:
    spelling = over_root_mean_square([-1], opset=22)
    assert_stays(spelling.model(DIMS, opset=22), RULE, "RMSNormalization came with opset 23")


def test_keeps_out_of_other_axes() -> None:
    assert_stays(model(over_root_mean_square([1])), RULE, "the axes are not the last ones")


def test_keeps_out_of_an_unknown_size() -> None:
    reason = "the size of the normalized axes is unknown"
    assert_stays(model(PLAIN, dims=("batch", 5, "width")), RULE, reason)


def test_keeps_out_of_double_precision() -> None:
    reason = "onnxruntime has no normalization of this dtype"
    assert_stays(model(PLAIN, dtype=TensorProto.DOUBLE), RULE, reason)


def test_leaves_layer_normalization_to_its_rule() -> None:
    spelling = standardized([-1], opset=23)
    leaves = {"LayerNormalization": 1}
    assert_fuses(model(spelling), "fuse_layer_normalization", leaves=leaves)
