"""fold_pad_into_max_pool: what it keeps out of and why, then what fires."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.helpers import assert_same_answers, f32, make_model, node, rewrite

RULE = "fold_pad_into_max_pool"
MAY_WIN = "what it pads with may be the maximum"
ONE = {"one": f32(1), "minus": f32(-1), "zero": f32(0), "shape": np.array([0, 2, 9, 8])}


def padded(
    before: Sequence[onnx.NodeProto] = (), value: float = -np.inf, *, opset: int = 17, **pool: Any
) -> onnx.ModelProto:
    """x ─ before ─ Pad ─ MaxPool of 3×3 ─ y; a, if any, is what `before` makes."""
    source = before[-1].output[0] if before else "x"
    used = {name for each in before for name in each.input}
    weights = {name: array for name, array in ONE.items() if name in used}
    if opset >= 11:
        weights |= {"pads": np.array([0, 0, 1, 0, 0, 0, 2, 1]), "value": f32(value)}
        pad = node("Pad", f"{source} pads value", "p")
    else:
        pad = node("Pad", source, "p", pads=[0, 0, 1, 0, 0, 0, 2, 1], value=float(value))
    nodes = [*before, pad, node("MaxPool", "p", "y", **{"kernel_shape": [3, 3], **pool})]
    return make_model(nodes, {"x": ["batch", 2, 8, 9]}, ["y"], weights, opset=opset)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        pytest.param(padded(value=0), MAY_WIN, id="zeros"),
        pytest.param(padded([node("Neg", "x", "a")], 0), MAY_WIN, id="zeros beside what may be negative"),
        pytest.param(padded([node("Relu", "x", "a")], 1), MAY_WIN, id="ones"),
        pytest.param(padded([node("Clip", "x minus one", "a")], 0), MAY_WIN, id="clipped below 0"),
        pytest.param(padded([node("Clip", "x zero minus", "a")], 0), MAY_WIN, id="clipped to crossed bounds"),
        pytest.param(
            padded([node("Relu", "x", "r"), node("Add", "r x", "a")], 0), MAY_WIN, id="one term is positive"
        ),
        pytest.param(padded(ceil_mode=1), "the pooling rounds its size up", id="ceil"),
        pytest.param(padded(dilations=[1, 2]), "the pooling is dilated", id="dilated"),
        pytest.param(padded(kernel_shape=[2, 2]), "the pads are as large as the window", id="large pads"),
    ],
)
def test_keeps_out(model: onnx.ModelProto, reason: str) -> None:
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined[RULE] == {reason: 1}


def test_keeps_out_where_the_indices_are_used() -> None:
    weights = {"pads": np.array([0, 0, 1, 0, 0, 0, 2, 1]), "value": f32(-np.inf)}
    nodes = [node("Pad", "x pads value", "p"), node("MaxPool", "p", "y i", kernel_shape=[3, 3])]
    model = make_model(nodes, {"x": [1, 2, 8, 9]}, ["y", "i"], weights)
    assert rewrite(model, RULE).declined[RULE] == {"another output is used": 1}


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(padded(), id="minus infinity"),
        pytest.param(padded(opset=10), id="by attributes"),
        pytest.param(padded(strides=[2, 2], pads=[0, 1, 0, 0]), id="strides and pads"),
        *(pytest.param(padded([node(op, "x", "a")], 0), id=op) for op in ("Relu", "Sigmoid", "Abs", "Exp")),
        pytest.param(padded([node("Relu", "x", "a")], -1), id="below Relu"),
        pytest.param(padded([node("Clip", "x zero one", "a")], 0), id="Clip"),
        pytest.param(
            padded([node("Clip", "x", "a", min=0.0, max=6.0)], 0, opset=10), id="Clip by attributes"
        ),
        pytest.param(
            padded(
                [
                    node("Relu", "x", "r"),
                    node("Transpose", "r", "t", perm=[0, 1, 3, 2]),
                    node("Transpose", "t", "a", perm=[0, 1, 3, 2]),
                ],
                0,
            ),
            id="moved",
        ),
        pytest.param(
            padded(
                [
                    node("Relu", "x", "r"),
                    node("Abs", "x", "s"),
                    node("Mul", "r s", "m"),
                    node("Add", "m r", "a"),
                ],
                0,
            ),
            id="products and sums",
        ),
    ],
)
def test_fires(model: onnx.ModelProto) -> None:
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert "Pad" not in after.ops
    assert_same_answers(model, after.model)


@pytest.mark.parametrize(("dtype", "lowest"), [(np.uint8, 0), (np.int8, -128)])
def test_fires_on_the_lowest_integer(dtype: type, lowest: int) -> None:
    weights = {"pads": np.array([0, 0, 1, 0, 0, 0, 2, 1]), "value": np.array(lowest, dtype)}
    nodes = [node("Pad", "x pads value", "p"), node("MaxPool", "p", "y", kernel_shape=[3, 3])]
    kind = TensorProto.UINT8 if dtype is np.uint8 else TensorProto.INT8
    model = make_model(nodes, {"x": [1, 2, 8, 9]}, ["y"], weights, dtype=kind)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    bounds = np.iinfo(dtype)
    feeds = {"x": np.random.default_rng(0).integers(bounds.min, bounds.max, (1, 2, 8, 9), dtype)}
    assert_same_answers(model, after.model, feeds)
