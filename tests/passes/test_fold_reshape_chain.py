"""fold_reshape_chain: what it keeps out of and why, then what fires."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.helpers import assert_same_answers, make_model, node, random_feeds, rewrite

RULE = "fold_reshape_chain"
CONSTANTS = {
    "i0": np.array(0), "i1": np.array(1), "minus": np.array([-1]), "one": np.array([1]),
    "after": np.array([1, 2, 3]), "before": np.array([0, 1, 2]),
}  # fmt: skip
INDEX = (
    node("Shape", "x", "s"), node("Gather", "s i0", "b"), node("Gather", "s i1", "n"),
    node("Range", "i0 b i1", "q"), node("Range", "i0 n i1", "r"),
    node("Unsqueeze", "q after", "q4"), node("Unsqueeze", "r before", "r4"),
)  # fmt: skip


def model_of(*nodes: onnx.NodeProto, opset: int = 17) -> onnx.ModelProto:
    """Nodes from x [b, n] to y."""
    read = {name for each in nodes for name in each.input}
    constants = {name: value for name, value in CONSTANTS.items() if name in read}
    return make_model(nodes, {"x": ["b", "n"]}, ["y"], constants, opset=opset)


def gathered(*index: onnx.NodeProto) -> onnx.ModelProto:
    """Gather of the flattened x at the values of `index`, given the shape of these."""
    tail = [
        node("Reshape", "x minus", "f"), node("Gather", "f index", "g"), node("Reshape", "g minus", "h"),
        node("Shape", "index", "t"), node("Reshape", "h t", "y"),
    ]  # fmt: skip
    return model_of(*INDEX, *index, *tail)


ROW_MAJOR = (node("Mul", "q4 n", "rows"), node("Add", "rows r4", "index"))
KEPT = {
    "by columns": gathered(node("Mul", "r4 b", "columns"), node("Add", "columns q4", "index")),
    "the same row again": gathered(node("Mul", "q4 i0", "rows"), node("Add", "rows r4", "index")),
}  # fmt: skip


@pytest.mark.parametrize("case", KEPT)
def test_keeps(case: str) -> None:
    model = KEPT[case]
    after = rewrite(model, RULE)
    (last,) = (each for each in after.model.graph.node if "y" in each.output)
    assert last.op_type == "Gather"
    assert_same_answers(model, after.model, random_feeds(model, b=5, n=5))


def test_keeps_axes_that_change_places() -> None:
    model = model_of(
        node("Shape", "x", "n", start=1),
        node("Shape", "x", "b", end=1),
        node("Concat", "n b", "t", axis=0),
        node("Reshape", "x t", "y"),
    )
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined == {RULE: {"no tensor above has these dims": 1}}
    assert_same_answers(model, after.model, random_feeds(model, b=3, n=5))


def test_a_gather_that_reads_in_order_goes() -> None:
    model = gathered(*ROW_MAJOR)
    after = rewrite(model, RULE, "remove_dead_nodes")
    assert after.fired[RULE] == 1
    assert after.ops == {"Unsqueeze": 1}
    for b, n in ((2, 5), (1, 1), (3, 1)):
        assert_same_answers(model, after.model, random_feeds(model, b=b, n=n))


@pytest.mark.parametrize("opset", [11, 17])
def test_axes_come_and_go(opset: int) -> None:
    nodes = [
        node("Shape", "x", "s"), node("Concat", "one s one", "t", axis=0), node("Reshape", "x t", "w"),
        node("Neg", "w", "v"), node("Reshape", "v s", "u"), node("MatMul", "u k", "y"),
    ]  # fmt: skip
    constants = {"one": np.array([1]), "k": np.ones((5, 2), np.float32)}
    model = make_model(nodes, {"x": ["b", 5]}, ["y"], constants)
    model.opset_import[0].version = opset
    after = rewrite(model, RULE, "remove_dead_nodes")
    assert after.ops == {"Unsqueeze": 1, "Neg": 1, "Squeeze": 1, "MatMul": 1}
    assert_same_answers(model, after.model, random_feeds(model, b=2))
