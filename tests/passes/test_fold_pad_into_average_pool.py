"""fold_pad_into_average_pool: what it keeps out of and why, then what fires."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from tests.helpers import assert_same_answers, f32, make_model, node, rewrite

RULE = "fold_pad_into_average_pool"


def padded(
    pads: tuple[int, ...] = (0, 0, 1, 0, 0, 0, 2, 1), value: float = 0.0, *, opset: int = 17, **pool: Any
) -> onnx.ModelProto:
    """x ─ Pad ─ AveragePool of 3×3 ─ y."""
    weights = {"pads": np.array(pads), "value": f32(value)} if opset >= 11 else {}
    by_attributes = {} if weights else {"pads": pads, "value": float(value)}
    pad = node("Pad", "x pads value" if weights else "x", "p", **by_attributes)
    nodes = [pad, node("AveragePool", "p", "y", kernel_shape=[3, 3], **pool)]
    return make_model(nodes, {"x": ["batch", 2, 8, 9]}, ["y"], weights, opset=opset)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        pytest.param(padded(value=1), "it does not pad with zeros", id="ones"),
        pytest.param(padded((0, 1, 0, 0, 0, 0, 0, 0)), "it pads the batch or the channels", id="channels"),
        pytest.param(padded((0, 0, 3, 0, 0, 0, 0, 0)), "the pads are as large as the window", id="large"),
        pytest.param(padded(ceil_mode=1, strides=[2, 2]), "the pooling rounds its size up", id="ceil"),
        pytest.param(
            padded(pads=(0, 0, 1, 1, 0, 0, 1, 1), auto_pad="SAME_LOWER"),
            "the pooling computes its pads from the size",
            id="same",
        ),
        pytest.param(padded(opset=19, dilations=[2, 2]), "the pooling is dilated", id="dilated"),
        pytest.param(padded(opset=6), "AveragePool does not count its pads before opset 7", id="opset 6"),
    ],
)
def test_keeps_out(model: onnx.ModelProto, reason: str) -> None:
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined[RULE] == {reason: 1}


def with_own_pads(count: int) -> onnx.ModelProto:
    """A pooling that has pads itself, and counts them or not."""
    weights = {"pads": np.array([0, 0, 1, 0, 0, 0, 0, 1])}
    pool = node("AveragePool", "p", "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=count)
    return make_model([node("Pad", "x pads", "p"), pool], {"x": [1, 2, 8, 9]}, ["y"], weights)


def test_keeps_out_of_a_pooling_that_leaves_out_its_own_pads() -> None:
    after = rewrite(with_own_pads(0), RULE)
    assert after.fired == {}
    assert after.declined[RULE] == {"its own pads do not count": 1}


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(padded(), id="plain"),
        pytest.param(padded(opset=7), id="by attributes"),
        pytest.param(padded(strides=[2, 3]), id="strides"),
        pytest.param(padded(auto_pad="VALID"), id="valid"),
        pytest.param(padded(count_include_pad=0, opset=19), id="no pads to count"),
        pytest.param(with_own_pads(1), id="its own pads count"),
    ],
)
def test_fires(model: onnx.ModelProto) -> None:
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"AveragePool": 1}
    assert_same_answers(model, after.model)
