"""eliminate_identity: Identity goes where no name of the signature hangs on it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.helpers import assert_same_answers, f32, make_model, node, rewrite

RULE = "eliminate_identity"


REMOVED = {
    "between nodes": ([node("Exp", "x", "a"), node("Identity", "a", "b"), node("Neg", "b", "y")], ["y"]),
    "after an input": ([node("Identity", "x", "b"), node("Neg", "b", "y")], ["y"]),
    "after a weight": ([node("Identity", "w", "b"), node("Mul", "x b", "y")], ["y"]),
    "before an output": ([node("Exp", "x", "a"), node("Identity", "a", "y")], ["y"]),
    "before an output, the value used by others too": (
        [node("Exp", "x", "a"), node("Neg", "a", "z"), node("Identity", "a", "y"), node("Abs", "a", "v")],
        ["v", "y", "z"],
    ),
    "of several users": (
        [node("Exp", "x", "a"), node("Identity", "a", "b"), node("Neg", "b", "y"), node("Add", "b b", "z")],
        ["y", "z"],
    ),
}
KEPT = {
    "from input to output": ([node("Identity", "x", "y")], ["y"]),
    "from weight to output": ([node("Identity", "w", "y"), node("Mul", "x w", "z")], ["y", "z"]),
    "from output to output": ([node("Exp", "x", "a"), node("Identity", "a", "y")], ["a", "y"]),
}


@pytest.mark.parametrize("case", REMOVED)
def test_removes(case: str) -> None:
    nodes, outputs = REMOVED[case]
    model = make_model(nodes, {"x": [2]}, outputs, {"w": f32([1, 2])})
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert "Identity" not in after.ops
    assert_same_answers(model, after.model, rtol=0)


@pytest.mark.parametrize("case", KEPT)
def test_keeps(case: str) -> None:
    nodes, outputs = KEPT[case]
    model = make_model(nodes, {"x": [2]}, outputs, {"w": f32([1, 2])})
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined[RULE] == {"the result is a graph output": 1}
    assert_same_answers(model, after.model, rtol=0)


def test_a_chain_to_two_outputs_keeps_one() -> None:
    nodes = [node("Exp", "x", "a"), node("Identity", "a", "y"), node("Identity", "y", "z")]
    model = make_model(nodes, {"x": [2]}, ["y", "z"])
    after = rewrite(model, RULE)
    assert after.ops == {"Exp": 1, "Identity": 1}
    assert_same_answers(model, after.model)


def branches(**nodes: list[onnx.NodeProto]) -> dict[str, onnx.GraphProto]:
    """Bodies whose output is `o`."""
    return {
        f"{name}_branch": helper.make_graph(
            each, name, [], [helper.make_tensor_value_info("o", TensorProto.FLOAT, [2])]
        )
        for name, each in nodes.items()
    }


def test_a_branch_that_passes_an_outer_value_on_needs_its_identity() -> None:
    bodies = branches(
        then=[node("Identity", "a", "o")], **{"else": [node("Neg", "a", "t"), node("Identity", "t", "o")]}
    )
    nodes = [
        node("Exp", "x", "a"),
        node("ReduceSum", "x", "s", keepdims=0),
        node("Cast", "s", "flag", to=TensorProto.BOOL),
        node("If", "flag", "y", **bodies),
    ]
    model = make_model(nodes, {"x": [2]}, ["y"])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops["Identity"] == 1
    for x in ([1, 2], [1, -1]):
        assert_same_answers(model, after.model, {"x": f32(x)})


def test_a_loop_that_passes_its_state_on_needs_its_identities() -> None:
    infos = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("v", "w", "o", "scan")
    }
    body = helper.make_graph(
        [
            node("Identity", "go", "on"),
            node("Identity", "v", "o"),
            node("Add", "v v", "t"),
            node("Identity", "t", "scan"),
        ],
        "body",
        [
            helper.make_tensor_value_info("count", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            infos["v"],
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), infos["o"], infos["scan"]],
    )
    graph = helper.make_graph(
        [node("Loop", "n go0 x", "y z", body=body)],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [2]),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, [3, 2]),
        ],
        [numpy_helper.from_array(np.array(3), "n"), numpy_helper.from_array(np.array(True), "go0")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops["Identity"] == 2
    assert_same_answers(model, after.model)


def test_in_a_function() -> None:
    model = make_model([node("Relu", "x", "y")], {"x": [2]}, ["y"])
    inner = [node("Identity", "x", "a"), node("Neg", "a", "b"), node("Identity", "b", "y")]
    model.functions.append(
        helper.make_function("test", "f", ["x"], ["y"], inner, [helper.make_opsetid("", 17)])
    )
    model.opset_import.append(helper.make_opsetid("test", 1))
    model.graph.node[0].CopyFrom(helper.make_node("f", ["x"], ["y"], domain="test"))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    assert [each.op_type for each in after.model.functions[0].node] == ["Neg"]
    assert_same_answers(model, after.model)
