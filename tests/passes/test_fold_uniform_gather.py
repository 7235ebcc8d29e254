"""fold_uniform_gather: what it keeps out of and why, then what fires."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.helpers import assert_same_answers, make_model, node, random_feeds, rewrite

RULE = "fold_uniform_gather"


def model_of(
    number: int, dims: tuple[int | str, ...] = ("b", "n", 4), *, axis: int = 0, zeros: bool = True
) -> onnx.ModelProto:
    """Add to x the rows of a table that indices of shape [b, n] read, all of them `number`."""
    value = numpy_helper.from_array(np.array([number]))
    nodes = [
        node("Shape", "ids", "s"),
        node("ConstantOfShape", "s", "index", value=value) if zeros else node("Identity", "ids", "index"),
        node("Gather", "table index", "g", axis=axis),
        node("Add", "x g", "y"),
    ]
    table = np.random.default_rng(0).normal(size=(3, 4) if axis == 0 else (4, 3)).astype(np.float32)
    model = make_model(nodes, {"x": dims, "ids": ["b", "n"]}, ["y"], {"table": table}) if zeros else None
    if model is None:
        graph = helper.make_graph(
            nodes, "g",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, dims),
             helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["b", "n"])],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["b", "n", 4])],
            [numpy_helper.from_array(table, "table")],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return model


@pytest.mark.parametrize("number", [0, 2, -1])
def test_fires(number: int) -> None:
    model = model_of(number)
    after = rewrite(model, RULE, "remove_dead_nodes", "remove_unused_initializers")
    assert after.fired[RULE] == 1
    assert after.ops == {"Add": 1}
    assert_same_answers(model, after.model, random_feeds(model, b=2, n=5))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (model_of(0, (1, 1, 4)), "what is gathered gives the sum its shape"),
        (
            model_of(1, ("b", "n", "m", 4)[1:], axis=0, zeros=False),
            "what is gathered gives the sum its shape",
        ),
        (model_of(0, zeros=False), "the rows differ"),
    ],
    ids=["x is smaller", "x has other dims", "indices of the caller"],
)
def test_keeps(model: onnx.ModelProto, reason: str) -> None:
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined == {RULE: {reason: 1}}
    feeds = random_feeds(model, b=2, n=2, m=2)
    feeds["ids"] = np.array([[0, 1], [2, 0]]).astype(feeds["ids"].dtype)
    assert_same_answers(model, after.model, feeds)
