"""fold_batchnorm_into_conv: what fires, and each precondition broken once."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from tests.helpers import assert_same_answers, batch_norm_weights, make_model, rewrite

RULE = "fold_batchnorm_into_conv"
BATCH_NORM = helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["y"], epsilon=1e-3)


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_fires_in_any_dimension_and_grouping(spatial: int, group: int, bias: bool) -> None:
    rng = np.random.default_rng(1)
    weights = batch_norm_weights(8) | {"w": rng.normal(size=(8, 4 // group, *(3,) * spatial)).astype(np.float32)}
    inputs = ["x", "w"]
    if bias:
        inputs.append("b")
        weights["b"] = rng.normal(size=8).astype(np.float32)
    conv = helper.make_node("Conv", inputs, ["c"], group=group, pads=[1] * 2 * spatial, name="conv")
    model = make_model([conv, BATCH_NORM], {"x": ["batch", 4, *(6,) * spatial]}, ["y"], weights)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Conv": 1}
    assert after.model.graph.node[0].name == "conv"
    assert_same_answers(model, after.model)
