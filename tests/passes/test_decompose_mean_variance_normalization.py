"""decompose_mean_variance_normalization: its axes, digits beside a large mean, and a constant channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from fuseonnx.passes.decompose_mean_variance_normalization import RULE
from tests.helpers import make_model, node, random_feeds
from tests.passes.forms import assert_stays
from tests.passes.gpu import assert_moves


def normalized(opset: int = 17, dtype: int = TensorProto.FLOAT, **attributes: Any) -> onnx.ModelProto:
    """MeanVarianceNormalization of x: [n, 4, 5, 6]."""
    nodes = [node("MeanVarianceNormalization", "x", "y", **attributes)]
    return make_model(nodes, {"x": ("n", 4, 5, 6)}, ["y"], opset=opset, dtype=dtype)


@pytest.mark.parametrize("opset", [9, 13, 17, 18, 22])
@pytest.mark.parametrize("attributes", [{}, {"axes": [0, 2, 3]}, {"axes": [0, 1, 2, 3]}])
def test_fires(opset: int, attributes: dict[str, list[int]]) -> None:
    after = assert_moves(normalized(opset, **attributes), RULE)
    assert after.ops == {"ReduceMean": 2, "Sub": 1, "Mul": 1, "Sqrt": 1, "Add": 1, "Div": 1}


def test_a_large_mean_costs_no_digits() -> None:
    model = normalized()
    feeds = {"x": random_feeds(model)["x"] + np.float32(1000)}
    assert_moves(model, RULE, feeds=feeds, rtol=1e-4)


def test_a_constant_channel_becomes_zero() -> None:
    model = normalized()
    feeds = random_feeds(model)
    feeds["x"][:, 1] = 2.0
    assert_moves(model, RULE, feeds=feeds)


def test_float16_is_computed_in_float32() -> None:
    model = normalized(dtype=TensorProto.FLOAT16)
    feeds = random_feeds(model)
    feeds["x"][:, 1] = 2.0
    assert assert_moves(model, RULE, feeds=feeds, rtol=1e-3).ops["Cast"] == 2


def test_keeps_out_of_doubles() -> None:
    reason = "onnxruntime has no MeanVarianceNormalization of this dtype"
    assert_stays(normalized(dtype=TensorProto.DOUBLE), RULE, reason)
