"""remove_dead_nodes: what nothing reads goes, what anything reads stays."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from tests.helpers import assert_same_answers, f32, make_model, node, rewrite

RULE = "remove_dead_nodes"


def two_branches(then: list[onnx.NodeProto], other: list[onnx.NodeProto]) -> dict[str, onnx.GraphProto]:
    """Bodies whose output is `o`."""
    return {
        f"{name}_branch": helper.make_graph(
            nodes, name, [], [helper.make_tensor_value_info("o", TensorProto.FLOAT, [2])]
        )
        for name, nodes in (("then", then), ("else", other))
    }


FLAG = [node("ReduceSum", "x", "s", keepdims=0), node("Cast", "s", "flag", to=TensorProto.BOOL)]
BOTH = ({"x": f32([1, 2])}, {"x": f32([1, -1])})


def test_removes_whole_chains() -> None:
    nodes = [node("Exp", "x", "a"), node("Neg", "a", "b"), node("Relu", "b", "c"), node("Abs", "x", "y")]
    model = make_model(nodes, {"x": [2]}, ["y"])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Abs": 1}
    assert_same_answers(model, after.model)


def test_keeps_a_chain_up_to_the_node_that_is_read() -> None:
    nodes = [node("Exp", "x", "a"), node("Neg", "a", "b"), node("Relu", "a", "y")]
    model = make_model(nodes, {"x": [2]}, ["y"])
    after = rewrite(model, RULE)
    assert after.ops == {"Exp": 1, "Relu": 1}
    assert_same_answers(model, after.model)


def test_keeps_a_node_of_which_one_output_is_read() -> None:
    nodes = [node("Split", "x", "a y", axis=0)]
    model = make_model(nodes, {"x": [2]}, ["y"], opset=13)
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert_same_answers(model, after.model)


def test_keeps_graph_outputs_that_no_node_reads() -> None:
    model = make_model([node("Exp", "x", "a"), node("Neg", "a", "y")], {"x": [2]}, ["a", "y"])
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert_same_answers(model, after.model)


def test_keeps_what_only_a_body_reads() -> None:
    branches = two_branches([node("Neg", "a", "o")], [node("Exp", "x", "o")])
    model = make_model([node("Abs", "x", "a"), *FLAG, node("If", "flag", "y", **branches)], {"x": [2]}, ["y"])
    after = rewrite(model, RULE)
    assert after.fired == {}
    for feeds in BOTH:
        assert_same_answers(model, after.model, feeds)


def test_removes_inside_bodies_and_then_what_only_the_dead_node_read() -> None:
    branches = two_branches(
        [node("Neg", "a", "dead"), node("Abs", "x", "o")], [node("Exp", "x", "o"), node("Neg", "o", "dead")]
    )
    model = make_model(
        [node("Tanh", "x", "a"), *FLAG, node("If", "flag", "y", **branches)], {"x": [2]}, ["y"]
    )
    after = rewrite(model, RULE)
    assert after.ops == {"ReduceSum": 1, "Cast": 1, "If": 1, "Abs": 1, "Exp": 1}
    for feeds in BOTH:
        assert_same_answers(model, after.model, feeds)


def test_removes_a_dead_if_with_what_only_its_bodies_read() -> None:
    branches = two_branches([node("Neg", "a", "o")], [node("Exp", "a", "o")])
    nodes = [node("Abs", "x", "a"), *FLAG, node("If", "flag", "dead", **branches), node("Relu", "x", "y")]
    model = make_model(nodes, {"x": [2]}, ["y"])
    after = rewrite(model, RULE)
    assert after.ops == {"Relu": 1}
    assert_same_answers(model, after.model)


def test_removes_functions_that_nothing_calls_and_those_that_only_they_called() -> None:
    def function(name: str, inner: onnx.NodeProto) -> onnx.FunctionProto:
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("test", 1)]
        return helper.make_function("test", name, ["x"], ["y"], [inner], imports)

    model = make_model([node("Relu", "x", "y")], {"x": [2]}, ["y"])
    model.functions.extend(
        [
            function("called", helper.make_node("inner", ["x"], ["y"], domain="test")),
            function("inner", node("Neg", "x", "y")),
            function("uncalled", helper.make_node("lonely", ["x"], ["y"], domain="test")),
            function("lonely", node("Exp", "x", "y")),
        ]
    )
    model.opset_import.append(helper.make_opsetid("test", 1))
    model.graph.node[0].CopyFrom(helper.make_node("called", ["x"], ["y"], domain="test"))
    after = rewrite(model, RULE)
    assert {each.name for each in after.model.functions} == {"called", "inner"}
    assert_same_answers(model, after.model)
