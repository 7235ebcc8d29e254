"""decompose_instance_normalization: opset 22, with constant and computed scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from fuseonnx.passes.decompose_instance_normalization import RULE
from tests.helpers import make_model, node, random_feeds
from tests.passes.forms import assert_stays
from tests.passes.gpu import assert_moves


def normalized(
    dims: Sequence[int | str] = ("n", 4, 5, 6),
    opset: int = 22,
    dtype: int = TensorProto.FLOAT,
    constant: bool = True,
    **attributes: Any,
) -> onnx.ModelProto:
    """InstanceNormalization of x with 4 channels."""
    nodes = [node("InstanceNormalization", "x g b", "y", **attributes)]
    rng, kind = np.random.default_rng(0), onnx.helper.tensor_dtype_to_np_dtype(dtype)
    weights = {name: rng.normal(size=4).astype(kind) for name in "gb"} if constant else {}
    inputs = {"x": dims} if constant else {"x": dims, "g": (4,), "b": (4,)}
    return make_model(nodes, inputs, ["y"], weights, opset=opset, dtype=dtype)


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("dims", [("n", 4, 5, 6), (2, 4, 7), ("n", 4, 3, 4, 5), ("n", "c", 5, 6)])
def test_fires(dims: Sequence[int | str], constant: bool) -> None:
    model = normalized(dims, constant=constant, epsilon=0.01)
    feeds = random_feeds(model, c=4)
    after = assert_moves(model, RULE, feeds=feeds)
    assert after.ops == {"Reshape": 4, "LayerNormalization": 1, "Mul": 1, "Add": 1}


def test_the_default_epsilon() -> None:
    model = normalized()
    feeds = {"x": random_feeds(model)["x"] * np.float32(1e-3)}
    assert_moves(model, RULE, feeds=feeds)


def test_float16_is_computed_in_float32() -> None:
    after = assert_moves(normalized(dtype=TensorProto.FLOAT16), RULE, rtol=2e-3)
    assert after.ops["Cast"] == 2


def test_keeps_out_where_there_is_a_kernel() -> None:
    assert_stays(normalized(opset=21), RULE, "there is a CUDA kernel before opset 22")


@pytest.mark.parametrize("dims", [("n", 4, "h", 6), (2, 4)])
def test_keeps_out_of_unknown_sizes(dims: Sequence[int | str]) -> None:
    assert_stays(normalized(dims), RULE, "a spatial size is unknown")


def test_keeps_out_of_doubles() -> None:
    reason = "onnxruntime has no InstanceNormalization of this dtype"
    assert_stays(normalized(dtype=TensorProto.DOUBLE), RULE, reason)
