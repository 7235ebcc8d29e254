"""eliminate_rank_test: the rank of an If's result tells which branch was taken."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers import node, rewrite
from tests.passes.ifs import COMPARE, assert_same_on_both_sides, branch, choice

RULE = "eliminate_rank_test"
SUMMED = node("ReduceSum", "x", "p", keepdims=0)
KEPT = node("Relu", "x", "q")
DEEPER = node("Unsqueeze", "x first", "q")
TEST = (node("Shape", "v", "shape"), node("Size", "shape", "size"), node("Equal", "size number", "test"))


def model_of(
    number: int, then: onnx.NodeProto, other: onnx.NodeProto, test: str = "size number"
) -> onnx.ModelProto:
    """A model that asks for the rank of v, which is 0, 2 or 3."""
    branches = [helper.make_graph([each], "b", [], [floats(each.output[0])]) for each in (then, other)]
    asked = node("Equal", test, "test")
    last = choice("y", branch([node("Exp", "x", "a")], "a"), branch([node("Neg", "x", "b")], "b"), on="test")
    weights = {"zero": np.array(0, np.float32), "number": np.array([number]), "first": np.array([0])}
    graph = helper.make_graph(
        [*COMPARE, choice("v", *branches), *TEST[:2], asked, last],
        "test",
        [floats("x", "batch", 4)],
        [floats("y", "batch", 4)],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def floats(name: str, *dims: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims or None)


@pytest.mark.parametrize("test", ["size number", "number size"])
@pytest.mark.parametrize("number", [0, 2])
def test_asks_the_first_condition_instead(number: int, test: str) -> None:
    model = model_of(number, SUMMED, KEPT, test)
    after = rewrite(model, RULE, "remove_dead_nodes")
    assert after.fired[RULE] == 1
    assert [after.ops.get(op, 0) for op in ("Shape", "Size", "Equal", "If")] == [0, 0, 0, 1]
    assert_same_on_both_sides(model, after.model)


def test_keeps_a_test_that_neither_or_either_branch_passes() -> None:
    assert rewrite(model_of(1, SUMMED, KEPT), RULE).fired == {}
    assert rewrite(model_of(2, node("Relu", "x", "p"), KEPT), RULE).fired == {}


def test_keeps_an_unknown_rank() -> None:
    squeezed = node("Squeeze", "x", "p")
    assert rewrite(model_of(2, squeezed, DEEPER), RULE).fired == {}
