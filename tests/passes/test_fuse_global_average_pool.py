"""fuse_global_average_pool: what it keeps out of, then what fires."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from tests.helpers import assert_same_answers, make_model, node, rewrite

RULE = "fuse_global_average_pool"
RNG = np.random.default_rng(0)
AFTER_CONV = (node("Conv", "x w", "a"), node("Relu", "a", "b"))


def squeezed(
    *before: onnx.NodeProto,
    opset: int = 17,
    mean: str = "b",
    after: tuple[onnx.NodeProto, ...] = (),
    outputs: tuple[str, ...] = ("y",),
    dtype: int = onnx.TensorProto.FLOAT,
    **attributes: Any,
) -> onnx.ModelProto:
    """x: [n, 3, 6, 5], convolved to 4 channels, and the Conv of its mean."""
    weights = {
        "w": RNG.normal(size=(4, 3, 3, 3)),
        "v": RNG.normal(size=(2, 4, 1, 1)),
        "d": RNG.normal(size=(4, 1, 3, 3)),
        "p": RNG.normal(size=(2, 3, 1, 1)),
    }
    last = after or (node("Conv", "m v" if mean != "x" else "m p", "y"),)
    attributes = {"axes": [2, 3], **attributes}
    reduce = node("ReduceMean", f"{mean} axes" if opset >= 18 else mean, "m", **attributes)
    if opset >= 18:
        weights["axes"] = np.array(attributes["axes"], np.int64)
        del reduce.attribute[[each.name for each in reduce.attribute].index("axes")]
    nodes = [*(before or AFTER_CONV), reduce, *last]
    read = {name for each in nodes for name in each.input}
    numpy_dtype = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    used = {
        name: array if array.dtype.kind == "i" else array.astype(numpy_dtype)
        for name, array in weights.items()
        if name in read
    }
    return make_model(nodes, {"x": ("n", 3, 6, 5)}, outputs, used, opset=opset, dtype=dtype)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        pytest.param(
            squeezed(axes=[2]), "it is not over both axes of an image, or does not keep them", id="one"
        ),
        pytest.param(
            squeezed(axes=[1, 2, 3], after=(node("Relu", "m", "y"),)),
            "it is not over both axes of an image, or does not keep them",
            id="channels too",
        ),
        pytest.param(
            squeezed(keepdims=0, after=(node("Relu", "m", "y"),)),
            "it is not over both axes of an image, or does not keep them",
            id="the axes go",
        ),
        pytest.param(
            squeezed(after=(node("Conv", "m v", "c"), node("Relu", "m", "z"), node("Identity", "c", "y"))),
            "others than convolutions read the mean",
            id="another reader",
        ),
        pytest.param(squeezed(outputs=("y", "m")), "others than convolutions read the mean", id="an output"),
        pytest.param(
            squeezed(node("Relu", "x", "b"), mean="b", after=(node("Conv", "m p", "y"),)),
            "the image does not come from a convolution",
            id="no convolution",
        ),
        pytest.param(squeezed(mean="x"), "the image does not come from a convolution", id="an input"),
        pytest.param(
            squeezed(node("Conv", "x w", "a"), node("Exp", "a", "b")),
            "the image does not come from a convolution",
            id="an operator without a blocked form",
        ),
    ],
)
def test_keeps_out(model: onnx.ModelProto, reason: str) -> None:
    after = rewrite(model, RULE)
    assert not after.fired
    assert after.declined[RULE] == {reason: 1}


def test_keeps_out_of_doubles() -> None:
    assert not rewrite(squeezed(dtype=onnx.TensorProto.DOUBLE), RULE).fired


@pytest.mark.parametrize("opset", [13, 17, 18, 20])
@pytest.mark.parametrize("axes", [[2, 3], [3, 2], [-1, -2]])
def test_fires(opset: int, axes: list[int]) -> None:
    model = squeezed(opset=opset, axes=axes)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Conv": 2, "Relu": 1, "GlobalAveragePool": 1}
    assert_same_answers(model, after.model)


@pytest.mark.parametrize(
    "before",
    [
        pytest.param([node("Conv", "x w", "b")], id="directly"),
        pytest.param([node("Conv", "x w", "a"), node("Conv", "a d", "b", group=4)], id="depthwise"),
        pytest.param(
            [node("Conv", "x w", "a"), node("Sigmoid", "a", "s"), node("Mul", "a s", "b")], id="SiLU"
        ),
        pytest.param(
            [node("Conv", "x w", "a"), node("HardSigmoid", "a", "s"), node("Mul", "s a", "b")], id="commuted"
        ),
    ],
)
def test_fires_behind(before: list[onnx.NodeProto]) -> None:
    model = squeezed(*before)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model)
