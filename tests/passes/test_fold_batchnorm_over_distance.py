"""fold_batchnorm_over_distance: what it keeps out of and why, then what fires, up and down."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest

from tests.helpers import batch_norm_weights, f32, node
from tests.passes.distance import assert_folds, assert_stays, chain, weights

RULE = "fold_batchnorm_over_distance"
STATISTICS = "gamma beta mean var"
IMAGES = ("n", 4, 6, 6)


def test_goes_up_through_concat() -> None:
    nodes = [
        node("Conv", "x w b", "p"), node("Conv", "x v", "q"), node("Concat", "p q", "m", axis=1),
        node("BatchNormalization", f"m {STATISTICS}", "y"),
    ]  # fmt: skip
    constants = {**weights(w=(8, 4, 3, 3), b=(8,), v=(3, 4, 3, 3)), **batch_norm_weights(11)}
    assert_folds(chain(nodes, constants), RULE, "BatchNormalization")


def test_goes_up_through_pooling() -> None:
    nodes = [
        node("Conv", "x w b", "p"), node("AveragePool", "p", "m", kernel_shape=[2, 2]),
        node("BatchNormalization", f"m {STATISTICS}", "y"),
    ]  # fmt: skip
    constants = {**weights(w=(8, 4, 3, 3), b=(8,)), **batch_norm_weights(8)}
    assert_folds(chain(nodes, constants), RULE, "BatchNormalization")


def before(
    middle: Sequence[onnx.NodeProto], constants: dict[str, np.ndarray], dims: Sequence[int | str]
) -> onnx.ModelProto:
    """x ─ Exp ─ BatchNormalization ─ m ─ middle ─ y."""
    nodes = [node("Exp", "x", "e"), node("BatchNormalization", f"e {STATISTICS}", "m"), *middle]
    return chain(nodes, {**batch_norm_weights(4), **constants}, dims)


@pytest.mark.parametrize(
    ("middle", "constants", "dims"),
    [
        pytest.param([node("Conv", "m w b", "y")], weights(w=(8, 4, 3, 3), b=(8,)), IMAGES, id="Conv"),
        pytest.param([node("Conv", "m w", "y", group=4)], weights(w=(8, 1, 3, 3)), IMAGES, id="groups"),
        pytest.param([node("Gemm", "m w b", "y")], weights(w=(4, 3), b=(3,)), ("n", 4), id="Gemm"),
        pytest.param([node("Identity", "m", "i"), node("MatMul", "i w", "p"), node("Add", "p b", "y")],
                     weights(w=(4, 3), b=(3,)), ("n", 4), id="MatMul and Add"),
    ],
)  # fmt: skip
def test_goes_down(
    middle: Sequence[onnx.NodeProto], constants: dict[str, np.ndarray], dims: Sequence[int | str]
) -> None:
    assert_folds(before(middle, constants, dims), RULE, "BatchNormalization")


@pytest.mark.parametrize(
    "middle",
    [
        pytest.param([node("Conv", "m w b", "y", pads=[1] * 4)], id="its shift meets pads"),
        pytest.param([node("Relu", "m", "r"), node("Conv", "r w b", "y")], id="its shift meets Relu"),
        pytest.param([node("Conv", "m w b", "z"), node("Exp", "m", "y")], id="another user"),
    ],
)
def test_stays(middle: Sequence[onnx.NodeProto]) -> None:
    assert_stays(before(middle, weights(w=(8, 4, 3, 3), b=(8,)), (2, 4, 6, 6)), RULE)


def test_stays_where_a_factor_is_zero() -> None:
    model = before([node("Conv", "m w b", "y")], weights(w=(8, 4, 3, 3), b=(8,)), (2, 4, 6, 6))
    gamma = next(each for each in model.graph.initializer if each.name == "gamma")
    gamma.CopyFrom(onnx.numpy_helper.from_array(f32([1, 0, 2, 3]), "gamma"))
    assert_stays(model, RULE, "")
