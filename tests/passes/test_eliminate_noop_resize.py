"""eliminate_noop_resize: what it keeps out of and why, then what fires."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, helper

from tests.passes.noops import PLACES, assert_dropped, assert_kept

RULE = "eliminate_noop_resize"
Dims = tuple[int | str, ...]
SAME = np.ones(4, np.float32)
WEIGHTS = {
    "scales": SAME,
    "grow": np.array([1, 1, 2, 1], np.float32),
    "sizes": np.array([1, 2, 3, 4]),
    "last": np.array([4]),
    "roi": np.zeros(8, np.float32),
}


def resize(inputs: str, **attributes: Any) -> NodeProto:
    return helper.make_node("Resize", inputs.split(" "), ["y"], **attributes)


@pytest.mark.parametrize(
    ("node", "dims", "reason"),
    [
        pytest.param(resize("x  grow"), (1, 2, 3, 4), "it may resize", id="scales"),
        pytest.param(resize("x   sizes"), (1, 2, 3, 3), "it may resize", id="sizes"),
        pytest.param(resize("x   sizes"), (1, 2, "h", 4), "it may resize", id="a dim is open"),
        pytest.param(
            resize("x roi scales", coordinate_transformation_mode="tf_half_pixel_for_nn"),
            (1, 2, 3, 4),
            "its coordinates move",
            id="half a pixel",
        ),
        pytest.param(
            resize("x roi scales", coordinate_transformation_mode="tf_crop_and_resize"),
            (1, 2, 3, 4),
            "its coordinates move",
            id="crop",
        ),
    ],
)
def test_keeps(node: NodeProto, dims: Dims, reason: str) -> None:
    opset = 11 if len(node.input) == 3 and node.input[1] else 18
    assert_kept(RULE, [node], dims, reason, WEIGHTS, opset=opset)


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize(
    ("node", "dims", "opset"),
    [
        pytest.param(resize("x  scales"), ("n", 2, 3, 4), 18, id="scales"),
        pytest.param(resize("x  scales", mode="cubic"), ("n", 2, 3, 4), 18, id="cubic"),
        pytest.param(resize("x  scales", mode="linear"), (1, 2, 3, 4), 13, id="linear"),
        pytest.param(resize("x   sizes"), (1, 2, 3, 4), 13, id="sizes"),
        pytest.param(resize("x   last", axes=[3]), (1, 2, 3, 4), 18, id="sizes of one axis"),
        pytest.param(resize("x scales"), (1, 2, 3, 4), 10, id="opset 10"),
        pytest.param(helper.make_node("Upsample", ["x", "scales"], ["y"]), (1, 2, 3, 4), 9, id="Upsample"),
    ],
)
def test_fires(where: str, node: NodeProto, dims: Dims, opset: int) -> None:
    assert_dropped(RULE, where, [node], dims, WEIGHTS, opset=opset)
