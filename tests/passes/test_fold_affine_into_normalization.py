"""fold_affine_into_normalization: what fires, and each precondition broken once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from tests.helpers import f32, node
from tests.passes.folds import FORMS
from tests.passes.fusions import (
    Spelling,
    assert_fuses,
    assert_fuses_in_both_branches,
    assert_needs_every_inner_value_to_itself,
    assert_stays,
)

RULE = "fold_affine_into_normalization"
DIMS = ("batch", 5, 8)
RNG = np.random.default_rng(3)
WEIGHTS = {
    "scale": f32(RNG.uniform(-2, 2, 8)),
    "bias": f32(RNG.normal(size=8)),
    "k": f32(RNG.uniform(0.5, 2, 8)),
}
IMAGES = ("batch", 8, 3, 3)


def followed(
    op_type: str, arithmetic: str = "Mul", inputs: str = "n k", *, bias: bool = True, **attributes: Any
) -> Spelling:
    """A normalization and what follows it."""
    parameters = "scale bias" if bias else "scale"
    nodes = (node(op_type, f"x {parameters}", "n", **attributes), node(arithmetic, inputs, "y"))
    per_channel = {"k": WEIGHTS["k"].reshape(8, 1, 1)} if op_type.startswith("Instance") else {}
    weights = {**WEIGHTS, **per_channel}
    return Spelling(nodes, weights if bias else {name: weights[name] for name in ("scale", "k")})


LAYER = followed("LayerNormalization")


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("arithmetic", "first"), FORMS)
def test_folds_into_layer_normalization(arithmetic: str, first: bool, bias: bool) -> None:
    spelling = followed("LayerNormalization", arithmetic, "k n" if first else "n k", bias=bias)
    assert_fuses(spelling.model(DIMS), RULE, leaves={"LayerNormalization": 1})


@pytest.mark.parametrize(("arithmetic", "first"), FORMS)
def test_folds_into_instance_normalization(arithmetic: str, first: bool) -> None:
    spelling = followed("InstanceNormalization", arithmetic, "k n" if first else "n k")
    assert_fuses(spelling.model(IMAGES), RULE, leaves={"InstanceNormalization": 1})


@pytest.mark.parametrize("arithmetic", ["Mul", "Div"])
def test_folds_factors_into_rms_normalization(arithmetic: str) -> None:
    spelling = followed("RMSNormalization", arithmetic, bias=False)
    assert_fuses(spelling.model(DIMS, opset=23), RULE, leaves={"RMSNormalization": 1})


def test_keeps_the_attributes() -> None:
    after = assert_fuses(
        followed("LayerNormalization", axis=2, epsilon=0.5).model(DIMS),
        RULE,
        leaves={"LayerNormalization": 1},
    )
    assert {each.name for each in after.model.graph.node[0].attribute} == {"axis", "epsilon"}


def test_folds_half_precision() -> None:
    model = LAYER.model(DIMS, dtype=TensorProto.FLOAT16)
    assert_fuses(model, RULE, leaves={"LayerNormalization": 1}, rtol=3e-3)


def test_folds_in_both_branches_of_an_if() -> None:
    assert_fuses_in_both_branches(LAYER, RULE, DIMS, 17)


def test_leaves_inner_values_that_are_outputs() -> None:
    assert_needs_every_inner_value_to_itself(LAYER, RULE, DIMS, 17)


def test_keeps_out_of_a_shift_for_rms_normalization() -> None:
    spelling = followed("RMSNormalization", "Add", bias=False)
    assert_stays(spelling.model(DIMS, opset=23), RULE, "RMSNormalization has no bias")


def test_keeps_out_of_several_axes() -> None:
    weights = {**WEIGHTS, "scale": f32(RNG.normal(size=(5, 8))), "bias": f32(RNG.normal(size=(5, 8)))}
    nodes = followed("LayerNormalization", axis=1).nodes
    assert_stays(Spelling(nodes, weights).model(DIMS), RULE, "several axes are normalized")


@pytest.mark.parametrize("shape", [(5, 1), (5, 8), (1, 1, 1, 8)], ids=str)
def test_keeps_out_of_constants_along_other_axes(shape: tuple[int, ...]) -> None:
    model = Spelling(LAYER.nodes, {**WEIGHTS, "k": f32(RNG.normal(size=shape))}).model(DIMS)
    assert_stays(model, RULE, "the constant is not one per channel")


@pytest.mark.parametrize("name", ["scale", "bias", "k"])
def test_keeps_out_of_constants_that_may_come_with_a_run(name: str) -> None:
    assert_stays(LAYER.model(DIMS, overridable=[name]), RULE, "")


def test_keeps_out_of_division_by_zero() -> None:
    spelling = followed("LayerNormalization", "Div")
    model = Spelling(spelling.nodes, {**WEIGHTS, "k": f32(np.zeros(8))}).model(DIMS)
    assert_stays(model, RULE, "the folded weights do not fit float32")
