"""remove_unused_initializers: what nothing reads goes, unless it belongs to the signature."""

from __future__ import annotations

from onnx import TensorProto, helper, numpy_helper

from tests.helpers import assert_same_answers, f32, make_model, rewrite

RULE = "remove_unused_initializers"
W = f32([1, 2])
MUL = helper.make_node("Mul", ["x", "w"], ["y"])


def test_removes_what_nothing_reads() -> None:
    model = make_model([MUL], {"x": [2]}, ["y"], {"w": W, "v": W, "u": W})
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    assert [each.name for each in after.model.graph.initializer] == ["w"]
    assert_same_answers(model, after.model)


def test_keeps_graph_inputs() -> None:
    model = make_model([MUL], {"x": [2]}, ["y"], {"w": W, "v": W}, overridable=["v"])
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert [each.name for each in after.model.graph.input] == ["x", "v"]
    assert_same_answers(model, after.model)


def test_keeps_graph_outputs() -> None:
    model = make_model([MUL], {"x": [2]}, ["y"], {"w": W, "v": W})
    model.graph.output.append(helper.make_tensor_value_info("v", TensorProto.FLOAT, [2]))
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert_same_answers(model, after.model)


def test_keeps_what_only_a_body_reads_and_clears_bodies() -> None:
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("Mul", ["x", weight], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])],
            [numpy_helper.from_array(W, f"{name}_w"), numpy_helper.from_array(W, f"{name}_unused")],
        )
        for name, weight in (("then", "w"), ("else", "else_w"))
    }
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Cast", ["s"], ["flag"], to=TensorProto.BOOL),
        helper.make_node("If", ["flag"], ["y"], **branches),
    ]
    model = make_model(nodes, {"x": [2]}, ["y"], {"w": W, "v": W})
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 4}
    for x in ([1, 2], [1, -1]):
        assert_same_answers(model, after.model, {"x": f32(x)})
