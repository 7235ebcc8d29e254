"""eliminate_noop_transpose: what it keeps out of and why, then what fires."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from onnx import NodeProto, helper

from tests.helpers import make_model, rewrite
from tests.passes.noops import PLACES, assert_dropped, assert_kept, assert_kept_between_input_and_output

RULE = "eliminate_noop_transpose"
REVERSE = helper.make_node("Transpose", ["x"], ["y"])
KEEP_3 = helper.make_node("Transpose", ["x"], ["y"], perm=[0, 1, 2])


@pytest.mark.parametrize(
    ("node", "dims"),
    [
        pytest.param(helper.make_node("Transpose", ["x"], ["y"], perm=[0, 2, 1]), (2, 3, 4), id="swap"),
        pytest.param(helper.make_node("Transpose", ["x"], ["y"], perm=[1, 2, 0]), (3, 3, 3), id="rotate"),
        pytest.param(REVERSE, ("a", "b"), id="no perm"),
    ],
)
def test_keeps_what_moves_an_axis(node: NodeProto, dims: Sequence[int | str]) -> None:
    assert_kept(RULE, [node], dims, "it moves an axis")


def test_keeps_an_unknown_rank() -> None:
    reshape = helper.make_node("Reshape", ["in", "target"], ["x"])
    model = make_model(
        [reshape, REVERSE], {"in": [6]}, ["y"], {"target": np.array([2, 3])}, overridable=["target"]
    )
    model.graph.input[1].type.tensor_type.shape.dim[0].Clear()
    model.graph.input[1].type.tensor_type.shape.dim[0].dim_param = "rank"
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.graph.output[0].type.tensor_type.shape.dim.add()
    model.graph.output[0].type.tensor_type.shape.dim.add()
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined == {RULE: {"the rank is unknown": 1}}


def test_keeps_names_of_input_and_output() -> None:
    assert_kept_between_input_and_output(RULE, [KEEP_3], (2, 3, 4))


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize(
    ("node", "dims"),
    [
        pytest.param(KEEP_3, ("a", "b", 4), id="rank 3"),
        pytest.param(REVERSE, ("a",), id="no perm, rank 1"),
        pytest.param(REVERSE, (), id="no perm, rank 0"),
    ],
)
def test_fires(where: str, node: NodeProto, dims: Sequence[int | str]) -> None:
    assert_dropped(RULE, where, [node], dims)
