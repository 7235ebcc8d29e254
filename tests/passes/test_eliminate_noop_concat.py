"""eliminate_noop_concat: what it keeps out of and why, then what fires."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from onnx import NodeProto, helper

from tests.passes.noops import PLACES, assert_dropped, assert_kept, assert_kept_between_input_and_output

RULE = "eliminate_noop_concat"
DIMS = ("batch", 4)
CONCAT = helper.make_node("Concat", ["x"], ["y"], axis=0)
SIZES = {"sizes": np.array([4])}


@pytest.mark.parametrize(
    "node",
    [
        pytest.param(helper.make_node("Concat", ["x", "x"], ["y"], axis=0), id="concat of two"),
        pytest.param(helper.make_node("Sum", ["x", "x"], ["y"]), id="sum of two"),
        pytest.param(helper.make_node("Mean", ["x", "x", "x"], ["y"]), id="mean of three"),
        pytest.param(helper.make_node("Split", ["x"], ["y", "z"], axis=1), id="split into two"),
    ],
)
def test_keeps_what_joins_or_splits(node: NodeProto) -> None:
    assert_kept(RULE, [node], DIMS, "")


def test_keeps_names_of_input_and_output() -> None:
    assert_kept_between_input_and_output(RULE, [CONCAT], DIMS)


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize(
    ("node", "weights", "opset"),
    [
        pytest.param(CONCAT, {}, 17, id="concat"),
        *(
            pytest.param(helper.make_node(op, ["x"], ["y"]), {}, opset, id=f"{op}, opset {opset}")
            for op in ("Sum", "Mean", "Max", "Min")
            for opset in (8, 17)
        ),
        pytest.param(helper.make_node("Split", ["x"], ["y"], axis=1), {}, 11, id="split, opset 11"),
        pytest.param(helper.make_node("Split", ["x", "sizes"], ["y"], axis=1), SIZES, 13, id="split, sizes"),
        pytest.param(helper.make_node("Split", ["x"], ["y"], num_outputs=1), {}, 18, id="split, num_outputs"),
    ],
)
def test_fires(where: str, node: NodeProto, weights: Mapping[str, np.ndarray], opset: int) -> None:
    assert_dropped(RULE, where, [node], DIMS, weights, opset=opset)
