"""fold_shape_reading: what it keeps out of and why, then what fires."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.helpers import assert_same_answers, make_model, node, random_feeds, rewrite

RULE = "fold_shape_reading"
CONSTANTS = {
    "zero": np.array([0]), "one": np.array([1]), "i0": np.array(0), "i1": np.array(1), "five": np.array([5]),
    "w": np.ones((3, 4), np.float32),
}  # fmt: skip


def model_of(*nodes: onnx.NodeProto, opset: int = 17) -> onnx.ModelProto:
    """Nodes from x [b, n, 3], with h [b, n, 4] computed from it, to y."""
    graph = [node("MatMul", "x w", "h"), node("Shape", "h", "t"), *nodes]
    read = {name for each in graph for name in each.input}
    constants = {name: value for name, value in CONSTANTS.items() if name in read}
    return make_model(graph, {"x": ["b", "n", 3]}, ["y"], constants, opset=opset)


DIM = (node("Gather", "t i1", "n"), node("Unsqueeze", "n zero", "y"))
BOTH = (node("Gather", "t one", "n"), node("Gather", "t zero", "b"), node("Concat", "b n", "y", axis=0))
KEPT = {
    "dims the wrong way round": model_of(
        node("Shape", "x", "n", start=1, end=2), node("Shape", "x", "b", end=1),
        node("Concat", "n b", "y", axis=0),
    ),
    "a product": model_of(
        node("Shape", "x", "n", start=1, end=2), node("Shape", "x", "b", end=1), node("Mul", "n b", "y")
    ),
    "a dim and a number": model_of(node("Shape", "x", "b", end=1), node("Concat", "b five", "y", axis=0)),
}  # fmt: skip
FIRED = {
    "one dim": (model_of(*DIM), {"Shape": 1}),
    "two dims": (model_of(*BOTH), {"Shape": 1}),
    "a dim and a half of twice as many": (
        model_of(node("Gather", "t one", "n"), node("Add", "n n", "m"), node("Sub", "m n", "y")),
        {"Shape": 1},
    ),
    "the shape of another tensor": (
        model_of(node("Relu", "x", "r"), node("Shape", "r", "s"), node("Neg", "s", "y")),
        {"Shape": 1, "Neg": 1},
    ),
}


@pytest.mark.parametrize("case", KEPT)
def test_keeps(case: str) -> None:
    model = KEPT[case]
    after = rewrite(model, RULE, "remove_dead_nodes")
    assert RULE not in after.fired
    assert "the dims stand side by side in no tensor" in after.declined[RULE]
    assert_same_answers(model, after.model, random_feeds(model, b=2, n=5))


@pytest.mark.parametrize("nodes", [DIM, BOTH])
def test_keeps_before_shape_has_a_start_and_an_end(nodes: tuple[onnx.NodeProto, ...]) -> None:
    model = model_of(*nodes, opset=14)
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert_same_answers(model, after.model, random_feeds(model, b=2, n=5))


@pytest.mark.parametrize("case", FIRED)
def test_fires(case: str) -> None:
    model, ops = FIRED[case]
    after = rewrite(model, RULE, "remove_dead_nodes")
    assert after.fired[RULE] >= 1
    assert after.ops == ops
    (shape,) = (each for each in after.model.graph.node if each.op_type == "Shape")
    assert shape.input == ["x"]
    assert_same_answers(model, after.model, random_feeds(model, b=2, n=5))


def test_reads_the_tensor_itself_where_no_input_has_the_dim() -> None:
    nodes = [
        node("Conv", "x k", "c", strides=[3]),
        node("Shape", "c", "s"),
        node("Gather", "s i", "d"),
        node("Unsqueeze", "d zero", "y"),
    ]
    constants = {"k": np.ones((2, 3, 2), np.float32), "i": np.array(2), "zero": np.array([0])}
    model = make_model(nodes, {"x": ["b", 3, "n"]}, ["y"], constants)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Conv": 1, "Shape": 1}
    assert_same_answers(model, after.model, random_feeds(model, n=11))
