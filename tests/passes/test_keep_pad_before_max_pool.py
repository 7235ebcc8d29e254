"""keep_pad_before_max_pool: what it keeps out of and why, then that onnxruntime's default level is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.helpers import (
    ONNXRUNTIME,
    assert_same_answers,
    f32,
    make_model,
    node,
    random_feeds,
    rewrite,
    run_reference,
)

RULE = "keep_pad_before_max_pool"


def padded(mode: str = "constant", value: float = 0.0, *, opset: int = 17, **pool: Any) -> onnx.ModelProto:
    """x ─ Pad ─ MaxPool of 3×3 ─ y."""
    if opset >= 11:
        weights = {"pads": np.array([0, 0, 1, 0, 0, 0, 2, 1]), "value": f32(value)}
        pad = node("Pad", "x pads value", "p", mode=mode)
    else:
        weights, pad = {}, node("Pad", "x", "p", pads=[0, 0, 1, 0, 0, 0, 2, 1], value=value)
    nodes = [pad, node("MaxPool", "p", "y", **{"kernel_shape": [3, 3], **pool})]
    return make_model(nodes, {"x": ["batch", 2, 8, 9]}, ["y"], weights, opset=opset)


def at_default_level(model: onnx.ModelProto, feeds: Any) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(["y"], feeds)[0])


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (padded("edge"), "it does not pad with a constant"),
        (padded(auto_pad="VALID"), "onnxruntime lets it be"),
        (padded(pads=[0, 1, 0, 0]), "the pooling has pads of its own"),
        (padded(ceil_mode=1), "the pooling rounds its size up, or is dilated"),
        (padded(dilations=[2, 1]), "the pooling rounds its size up, or is dilated"),
    ],
)
def test_keeps_out(model: onnx.ModelProto, reason: str) -> None:
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined[RULE] == {reason: 1}


def test_keeps_out_where_the_indices_are_used() -> None:
    weights = {"pads": np.array([0, 0, 1, 0, 0, 0, 2, 1])}
    nodes = [node("Pad", "x pads", "p"), node("MaxPool", "p", "y i", kernel_shape=[3, 3])]
    model = make_model(nodes, {"x": [1, 2, 8, 9]}, ["y", "i"], weights)
    assert rewrite(model, RULE).declined[RULE] == {"another output is used": 1}


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(padded(), id="zeros"),
        pytest.param(padded(value=-0.5), id="another number"),
        pytest.param(padded(strides=[2, 3]), id="strides"),
        pytest.param(padded(pads=[0, 0, 0, 0], strides=[2, 2]), id="zero pads"),
        pytest.param(padded(opset=10), id="by attributes"),
    ],
)
def test_fires(model: onnx.ModelProto) -> None:
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1} and after.ops == {"Pad": 1, "MaxPool": 1}
    assert_same_answers(model, after.model, rtol=0)
    negative = {"x": -np.abs(random_feeds(model)["x"]) - 1}
    expected = run_reference(model, negative)["y"]
    np.testing.assert_array_equal(at_default_level(after.model, negative), expected)


def test_the_original_is_wrong_at_the_default_level_before_onnxruntime_1_32() -> None:
    """The rule can go with the last of these versions."""
    negative = {"x": -np.abs(random_feeds(padded())["x"]) - 1}
    is_right = np.array_equal(at_default_level(padded(), negative), run_reference(padded(), negative)["y"])
    assert is_right == (ONNXRUNTIME >= (1, 32))


def test_the_pad_may_have_other_users() -> None:
    weights = {"pads": np.array([0, 0, 1, 0, 0, 0, 2, 1])}
    nodes = [
        node("Pad", "x pads", "p"),
        node("MaxPool", "p", "y", kernel_shape=[3, 3]),
        node("Neg", "p", "z"),
    ]
    model = make_model(nodes, {"x": [1, 2, 8, 9]}, ["y", "z", "p"], weights)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model, rtol=0)
