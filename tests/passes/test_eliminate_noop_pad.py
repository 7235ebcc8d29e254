"""eliminate_noop_pad: what it keeps out of and why, then what fires."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from onnx import NodeProto, helper

from tests.passes.noops import PLACES, assert_dropped, assert_kept, assert_kept_between_input_and_output

RULE = "eliminate_noop_pad"
DIMS = ("batch", 4)
PAD = helper.make_node("Pad", ["x", "pads"], ["y"])
WITH_VALUE = helper.make_node("Pad", ["x", "pads", "value"], ["y"])
WITH_AXES = helper.make_node("Pad", ["x", "pads", "", "axes"], ["y"])
NONE = {"pads": np.zeros(4, dtype=np.int64)}
VALUE = {"value": np.array(7, dtype=np.float32)}
AXES = {"pads": np.zeros(2, dtype=np.int64), "axes": np.array([-1])}


@pytest.mark.parametrize("pads", [(0, 0, 0, 1), (0, -1, 0, 0), (0, -1, 0, 1)])
def test_keeps_what_pads_or_crops(pads: tuple[int, ...]) -> None:
    assert_kept(RULE, [PAD], DIMS, "it pads", {"pads": np.array(pads)})


def test_keeps_what_pads_by_attribute() -> None:
    node = helper.make_node("Pad", ["x"], ["y"], pads=[0, 1, 0, 0])
    assert_kept(RULE, [node], DIMS, "it pads", opset=10)


def test_keeps_pads_that_the_caller_may_override() -> None:
    assert_kept(RULE, [PAD], DIMS, "", NONE, overridable=["pads"])


def test_keeps_names_of_input_and_output() -> None:
    assert_kept_between_input_and_output(RULE, [PAD], DIMS, NONE)


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize(
    ("node", "weights", "opset"),
    [
        pytest.param(PAD, NONE, 17, id="constant"),
        pytest.param(PAD, NONE, 11, id="opset 11"),
        pytest.param(WITH_VALUE, NONE | VALUE, 17, id="with a value"),
        pytest.param(WITH_AXES, AXES, 18, id="with axes"),
        pytest.param(helper.make_node("Pad", ["x", "pads"], ["y"], mode="reflect"), NONE, 17, id="reflect"),
        pytest.param(helper.make_node("Pad", ["x"], ["y"], pads=[0, 0, 0, 0]), {}, 10, id="attribute"),
    ],
)
def test_fires(where: str, node: NodeProto, weights: Mapping[str, np.ndarray], opset: int) -> None:
    assert_dropped(RULE, where, [node], DIMS, weights, opset=opset)
