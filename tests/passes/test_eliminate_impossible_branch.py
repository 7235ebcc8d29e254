"""eliminate_impossible_branch: which consumers insist on a rank, and that what failed still fails."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers import assert_same_answers, node, rewrite, run_reference

RULE = "eliminate_impossible_branch"
HIDDEN = 2


def body(each: onnx.NodeProto) -> onnx.GraphProto:
    info = helper.make_tensor_value_info(each.output[0], TensorProto.FLOAT, None)
    return helper.make_graph([each], "body", [], [info])


def squeezing(axis: str = "last", *, other: onnx.NodeProto | None = None) -> onnx.NodeProto:
    """v [batch, 3] of x [batch, 3, length] if the length is 1, else x."""
    return node(
        "If",
        "single",
        "v",
        then_branch=body(node("Squeeze", f"x {axis}", "p")),
        else_branch=body(other or node("Identity", "x", "q")),
    )


LSTM = (
    node("Unsqueeze", "v first", "u"),
    node("LSTM", "u w r", "all", hidden_size=HIDDEN),
    node("ReduceSum", "all", "y", keepdims=0),
)
CONV = (node("Unsqueeze", "v second", "u"), node("Conv", "u k", "c"), node("ReduceSum", "c", "y", keepdims=0))


def model_of(nodes: Sequence[onnx.NodeProto], tested: str = "last", wanted: int = 1) -> onnx.ModelProto:
    """A model of x [batch, 3, length] that compares a dim of it first."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(1, 4 * HIDDEN, 3)).astype(np.float32),
        "r": rng.normal(size=(1, 4 * HIDDEN, HIDDEN)).astype(np.float32),
        "k": rng.normal(size=(2, 1, 3)).astype(np.float32),
        **{"last": np.array([-1]), "first": np.array([0]), "second": np.array([1])},
        "wanted": np.array([wanted]),
    }
    test = [
        node("Shape", "x", "shape"),
        node("Gather", f"shape {tested}", "dim"),
        node("Equal", "dim wanted", "single"),
    ]
    graph = helper.make_graph(
        [*test, *nodes],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, "length"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def feeds(length: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).normal(size=(2, 3, length)).astype(np.float32)}


@pytest.mark.parametrize("consumer", [LSTM, CONV], ids=["LSTM", "Conv"])
def test_takes_the_branch_that_can_run(consumer: Sequence[onnx.NodeProto]) -> None:
    model = model_of([squeezing(), *consumer])
    after = rewrite(model, RULE, "inline_constant_if", "remove_dead_nodes")
    assert after.fired[RULE] == 1
    assert [after.ops.get(op, 0) for op in ("If", "Equal", "Squeeze")] == [0, 0, 1]
    assert_same_answers(model, after.model, feeds(1))
    for failing in (model, after.model):
        with pytest.raises(Exception, match="ONNXRuntimeError"):
            run_reference(failing, feeds(5))


@pytest.mark.parametrize(("start", "fires"), [(2, True), (1, False)])
def test_a_size_that_shape_reads_itself(start: int, fires: bool) -> None:
    model = model_of([squeezing(), *LSTM])
    del model.graph.node[:2]
    model.graph.node.insert(0, node("Shape", "x", "dim", start=start, end=start + 1))
    after = rewrite(model, RULE)
    assert after.fired == ({RULE: 1} if fires else {})


def test_decides_other_ifs_on_the_condition() -> None:
    other = node(
        "If",
        "single",
        "z",
        then_branch=body(node("Neg", "all", "a")),
        else_branch=body(node("Abs", "all", "b")),
    )
    total = node("ReduceSum", "z", "y", keepdims=0)
    model = model_of([squeezing(), *LSTM[:2], other, total])
    after = rewrite(model, RULE, "inline_constant_if")
    assert after.fired == {RULE: 2, "inline_constant_if": 2}
    assert "Abs" not in after.ops
    assert_same_answers(model, after.model, feeds(1))


KEPT = {
    "both branches have a rank that is right": model_of(
        [squeezing(other=node("ReduceSum", "x last", "q", keepdims=0)), *LSTM]
    ),
    "neither has": model_of(
        [squeezing(), node("Unsqueeze", "v first", "v2"), node("Unsqueeze", "v2 first", "u"), *LSTM[1:]]
    ),
    "no consumer insists": model_of([squeezing(), node("ReduceSum", "v", "y", keepdims=0)]),
    "another axis is squeezed, so that no failure would be left": model_of([squeezing("first"), *LSTM]),
    "another axis is tested": model_of([squeezing(), *LSTM], "first"),
    "another size is tested": model_of([squeezing(), *LSTM], wanted=2),
}


@pytest.mark.parametrize("case", KEPT)
def test_keeps(case: str) -> None:
    assert rewrite(KEPT[case], RULE).fired == {}
