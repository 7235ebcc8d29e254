"""eliminate_dropout: what it keeps out of and why, then what fires."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from onnx import NodeProto, helper

from tests.helpers import make_model, rewrite
from tests.passes.noops import (
    PLACES,
    assert_dropped,
    assert_kept,
    assert_kept_between_input_and_output,
    identity,
)

RULE = "eliminate_dropout"
DIMS = ("batch", 4)
PLAIN = helper.make_node("Dropout", ["x"], ["y"])
WITH_MODE = helper.make_node("Dropout", ["x", "ratio", "mode"], ["y"])
WITH_MASK = helper.make_node("Dropout", ["x"], ["y", "mask"])
RATIO = {"ratio": np.array(0.5, dtype=np.float32)}
ON, OFF = RATIO | {"mode": np.array(True)}, RATIO | {"mode": np.array(False)}


def test_keeps_training() -> None:
    assert_kept(RULE, [WITH_MODE], DIMS, "it may drop at run time", ON)


def test_keeps_what_the_caller_may_switch_to_training() -> None:
    assert_kept(RULE, [WITH_MODE], DIMS, "it may drop at run time", OFF, overridable=["mode"])


def test_keeps_training_before_opset_7() -> None:
    assert_kept(RULE, [PLAIN], DIMS, "it may drop at run time", opset=6)


def test_keeps_a_mask_that_is_a_graph_output() -> None:
    assert_kept(RULE, [WITH_MASK], DIMS, "the mask is used", outputs=["out", "mask"])


def test_keeps_a_mask_that_is_read() -> None:
    reads = identity("mask", "copy")
    assert_kept(RULE, [WITH_MASK, reads], DIMS, "the mask is used", outputs=["out", "copy"])


def test_keeps_names_of_input_and_output() -> None:
    assert_kept_between_input_and_output(RULE, [PLAIN], DIMS)


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize(
    ("node", "weights", "opset"),
    [
        pytest.param(PLAIN, {}, 17, id="no mode"),
        pytest.param(WITH_MASK, {}, 17, id="mask unused"),
        pytest.param(WITH_MODE, OFF, 17, id="mode is false"),
        pytest.param(WITH_MODE, OFF, 12, id="opset 12"),
        pytest.param(helper.make_node("Dropout", ["x"], ["y"], ratio=0.3), {}, 10, id="opset 10"),
        pytest.param(helper.make_node("Dropout", ["x"], ["y"], ratio=0.3), {}, 7, id="opset 7"),
    ],
)
def test_fires(where: str, node: NodeProto, weights: Mapping[str, np.ndarray], opset: int) -> None:
    assert_dropped(RULE, where, [node], DIMS, weights, opset=opset)


def test_fires_in_test_mode_before_opset_7() -> None:
    node = helper.make_node("Dropout", ["x"], ["y"], is_test=1)
    model = make_model([identity("in", "x"), node], {"in": DIMS}, ["y"], opset=6)
    after = rewrite(model, RULE)  # onnxruntime does not run opset 6
    assert after.fired == {RULE: 1}
    assert after.ops == {"Identity": 1}
