"""fold_pad_into_conv: what it keeps out of and why, then what fires."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers import assert_same_answers, f32, make_model, node, rewrite

RULE = "fold_pad_into_conv"
PADS = [0, 0, 1, 0, 0, 0, 2, 3]
W = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)


def padded(
    pads: list[int] | None = None,
    value: Any = None,
    *,
    mode: str = "constant",
    opset: int = 17,
    axes: list[int] | None = None,
    more: tuple[onnx.NodeProto, ...] = (),
    outputs: tuple[str, ...] = ("y",),
    **conv: Any,
) -> onnx.ModelProto:
    """x ─ Pad ─ Conv ─ y."""
    pads = PADS if pads is None else pads
    weights = {"w": W}
    if opset < 11:
        pad = node("Pad", "x", "p", pads=pads, value=value or 0.0, mode=mode)
    else:
        weights["pads"] = np.array(pads)
        names = ["x", "pads", "" if value is None else "value", "" if axes is None else "axes"]
        while not names[-1]:
            names.pop()
        if value is not None:
            weights["value"] = f32(value)
        if axes is not None:
            weights["axes"] = np.array(axes)
        pad = helper.make_node("Pad", names, ["p"], mode=mode)
    nodes = [pad, node("Conv", "p w", "y", **conv), *more]
    return make_model(nodes, {"x": ["batch", 3, 8, 9]}, outputs, weights, opset=opset)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        pytest.param(padded(value=1.0), "it does not pad with zeros", id="ones"),
        pytest.param(padded(value=1.0, opset=9), "it does not pad with zeros", id="ones by attribute"),
        pytest.param(padded(mode="reflect"), "it does not pad with a constant", id="reflected"),
        pytest.param(padded(mode="edge", opset=9), "it does not pad with a constant", id="edge"),
        pytest.param(padded(mode="wrap", opset=19), "it does not pad with a constant", id="wrapped"),
        pytest.param(padded([0, 0, -1, 0, 0, 0, 1, 0]), "it crops", id="cropped"),
        pytest.param(padded([1, 0, 1, 1, 0, 0, 1, 1]), "it pads the batch or the channels", id="batch"),
        pytest.param(
            padded(auto_pad="SAME_UPPER"), "the convolution computes its pads from the size", id="same"
        ),
    ],
)
def test_keeps_out(model: onnx.ModelProto, reason: str) -> None:
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined[RULE] == {reason: 1}


def test_keeps_out_of_pads_that_the_caller_gives() -> None:
    model = padded()
    model.graph.input.append(helper.make_tensor_value_info("pads", TensorProto.INT64, [8]))
    assert rewrite(model, RULE).fired == {}


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(padded(), id="its value by default"),
        pytest.param(padded(value=0.0), id="its value"),
        pytest.param(padded(value=-0.0), id="a negative zero"),
        pytest.param(padded(opset=9), id="by attributes"),
        pytest.param(padded(opset=2), id="of the first form"),
        pytest.param(padded([1, 2, 0, 3], axes=[-1, 2], opset=18), id="some axes"),
        pytest.param(padded(opset=21), id="opset 21"),
        pytest.param(padded(strides=[2, 2], pads=None), id="strides"),
        pytest.param(padded(auto_pad="VALID"), id="valid"),
        pytest.param(padded(auto_pad="NOTSET", dilations=[2, 1]), id="dilated"),
    ],
)
def test_fires(model: onnx.ModelProto) -> None:
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Conv": 1}
    assert_same_answers(model, after.model)


def test_adds_to_the_pads_of_the_convolution() -> None:
    model = make_model(
        [node("Pad", "x pads", "p"), node("Conv", "p w", "y", pads=[1, 2, 3, 4], strides=[2, 1])],
        {"x": [2, 3, 8, 9]},
        ["y"],
        {"pads": np.array(PADS), "w": W},
    )
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    pads = next(each for each in after.model.graph.node[0].attribute if each.name == "pads")
    assert list(pads.ints) == [2, 2, 5, 7]
    assert_same_answers(model, after.model)


def test_fires_for_each_user_of_one_pad() -> None:
    model = padded(more=(node("Conv", "p w", "z", strides=[2, 2]),), outputs=("y", "z"))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    assert after.ops == {"Conv": 2}
    assert_same_answers(model, after.model)


def test_fires_beside_a_pad_that_is_a_graph_output() -> None:
    model = padded(outputs=("y", "p"))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Conv": 1, "Pad": 1}
    assert_same_answers(model, after.model)


def integers(value: int, zero: int | None) -> onnx.ModelProto:
    """x ─ Pad(value) ─ ConvInteger(x_zero_point=zero) ─ y, of uint8."""
    weights = {
        "pads": np.array(PADS),
        "value": np.array(value, np.uint8),
        "w": np.random.default_rng(1).integers(0, 255, (4, 3, 3, 3), np.uint8),
    }
    inputs = "p w"
    if zero is not None:
        weights["zero"], inputs = np.array(zero, np.uint8), "p w zero"
    nodes = [node("Pad", "x pads value", "p"), node("ConvInteger", inputs, "y")]
    return make_model(nodes, {"x": [2, 3, 8, 9]}, ["y"], weights, dtype=TensorProto.UINT8)


@pytest.mark.parametrize(("value", "zero"), [(0, None), (0, 0), (7, 7)])
def test_fires_on_integers_padded_with_their_zero_point(value: int, zero: int | None) -> None:
    model = integers(value, zero)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    feeds = {"x": np.random.default_rng(2).integers(0, 255, (2, 3, 8, 9), np.uint8)}
    assert_same_answers(model, after.model, feeds)


@pytest.mark.parametrize(("value", "zero"), [(7, None), (0, 7), (7, 0)])
def test_keeps_out_of_integers_padded_with_another_number(value: int, zero: int | None) -> None:
    after = rewrite(integers(value, zero), RULE)
    assert after.fired == {}
    assert after.declined[RULE] == {"it does not pad with zeros": 1}


def test_fires_on_a_quantized_convolution() -> None:
    rng = np.random.default_rng(3)
    weights = {
        "pads": np.array(PADS),
        "value": np.array(9, np.uint8),
        "scale": f32(0.1),
        "zero": np.array(9, np.uint8),
        "w": rng.integers(-99, 99, (4, 3, 3, 3), np.int8),
        "w_scale": f32(0.02),
        "w_zero": np.array(0, np.int8),
        "y_scale": f32(1.5),
        "y_zero": np.array(100, np.uint8),
    }
    names = "p scale zero w w_scale w_zero y_scale y_zero"
    nodes = [node("Pad", "x pads value", "p"), node("QLinearConv", names, "y")]
    model = make_model(nodes, {"x": [2, 3, 8, 9]}, ["y"], weights, dtype=TensorProto.UINT8)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model, {"x": rng.integers(0, 255, (2, 3, 8, 9), np.uint8)})
