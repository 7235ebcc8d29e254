"""inline_constant_if: the branch taken stands in for the If, whatever it passes on, however it is named."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.helpers import IR_VERSION, assert_same_answers, f32, make_model, node, rewrite

RULE = "inline_constant_if"
Nodes = Sequence[onnx.NodeProto]


def branch(nodes: Nodes, outputs: str, weights: dict[str, np.ndarray] | None = None) -> onnx.GraphProto:
    """A body without inputs, whose outputs are float vectors."""
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in outputs.split()]
    tensors = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    return helper.make_graph(list(nodes), "branch", [], infos, tensors)


def choice(condition: str, outputs: str, then: onnx.GraphProto, other: onnx.GraphProto) -> onnx.NodeProto:
    """An If."""
    return node("If", condition, outputs, then_branch=then, else_branch=other)


def model_of(nodes: Nodes, outputs: str, condition: npt.ArrayLike = True) -> onnx.ModelProto:
    """A model of x [n] with the constants `flag`, `no` and `two`; its outputs are float vectors."""
    weights = {"flag": np.asarray(condition), "no": np.asarray(False), "two": f32([2, 2, 2])}
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in outputs.split()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


PAIR = branch([node("Neg", "x", "a"), node("Exp", "x", "b")], "a b")


def relu(output: str = "a") -> onnx.GraphProto:
    """A branch that takes Relu of x."""
    return branch([node("Relu", "x", output)], output)


def negative(output: str = "a") -> onnx.GraphProto:
    """A branch that negates x."""
    return branch([node("Neg", "x", output)], output)


def calling(inner: Nodes) -> onnx.ModelProto:
    """A model that is one call of a function from x to y with these nodes."""
    model = model_of([node("Relu", "x", "y")], "y")
    imports = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("test", "f", ["x"], ["y"], list(inner), imports))
    model.opset_import.append(helper.make_opsetid("test", 1))
    model.graph.node[0].CopyFrom(helper.make_node("f", ["x"], ["y"], domain="test"))
    return model


@pytest.mark.parametrize("condition", [True, False, [True], [[False]]], ids=str)
def test_takes_the_branch_of_the_condition(condition: npt.ArrayLike) -> None:
    model = model_of([choice("flag", "y", relu(), negative())], "y", condition)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Relu" if np.all(condition) else "Neg": 1}
    assert_same_answers(model, after.model)


SHAPES_OF_BRANCHES = {
    "passes an outer value through": choice(
        "flag", "y", branch([node("Identity", "x", "a")], "a"), negative()
    ),
    "passes an outer constant through": choice(
        "flag", "y", branch([node("Identity", "two", "a")], "a"), negative()
    ),
    "passes its own constant through": choice(
        "flag", "y", branch([], "w", {"w": f32([1, 2, 3])}), negative()
    ),
    "uses its own constant": choice(
        "flag", "y", branch([node("Mul", "x w", "a")], "a", {"w": f32([1, 2, 3])}), negative()
    ),
    "has the name of the result": choice("flag", "y", relu("y"), negative("y")),
    "names the same as the other": choice(
        "flag",
        "y",
        branch([node("Relu", "x", "t"), node("Exp", "t", "a")], "a"),
        branch([node("Neg", "x", "t"), node("Exp", "t", "a")], "a"),
    ),
    "holds an If whose condition is constant": choice(
        "flag", "y", branch([choice("no", "a", relu("b"), negative("b"))], "a"), negative()
    ),
    "holds an If whose condition varies": choice(
        "flag",
        "y",
        branch(
            [
                node("Abs", "x", "t"),
                node("ReduceSum", "x", "s", keepdims=0),
                node("Cast", "s", "c", to=TensorProto.BOOL),
                choice("c", "a", branch([node("Exp", "t", "b")], "b"), branch([node("Neg", "t", "b")], "b")),
            ],
            "a",
        ),
        negative(),
    ),
}


@pytest.mark.parametrize("case", SHAPES_OF_BRANCHES)
@pytest.mark.parametrize("as_output", [True, False], ids=["graph output", "inner value"])
def test_the_branch(case: str, as_output: bool) -> None:
    nodes = [SHAPES_OF_BRANCHES[case]]
    if not as_output:
        nodes.append(node("Sigmoid", "y", "z"))
    model = model_of(nodes, "y" if as_output else "z")
    for only in ([RULE], []):
        after = rewrite(model, *only)
        assert after.fired[RULE] == (2 if "condition is constant" in case else 1)
        assert_same_answers(model, after.model)


def test_one_result_twice() -> None:
    twice = choice("flag", "y z", branch([node("Relu", "x", "a"), node("Identity", "a", "b")], "a b"), PAIR)
    model = model_of([twice], "y z")
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model)


def test_several_results_in_their_order() -> None:
    then = branch([node("Relu", "x", "a"), node("Neg", "x", "b")], "b a")
    model = model_of([choice("flag", "y z", then, PAIR)], "z y")
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model)


def test_neighbours_whose_branches_share_names() -> None:
    def body(op_type: str) -> onnx.GraphProto:
        nodes = [node(op_type, "x", "t"), node("Mul", "t w", "a")]
        return branch(nodes, "a", {"w": f32([1, 2, 3]) if op_type == "Relu" else f32([4, 5, 6])})

    nodes = [
        choice("flag", "p", body("Relu"), body("Neg")),
        choice("no", "q", body("Relu"), body("Neg")),
        node("Add", "p q", "y"),
    ]
    model = model_of(nodes, "y")
    for only in ([RULE], []):
        after = rewrite(model, *only)
        assert after.fired[RULE] == 2
        assert_same_answers(model, after.model)


def test_an_unused_result_goes() -> None:
    then = branch([node("Relu", "x", "a"), node("Neg", "x", "b")], "a b")
    model = model_of([choice("flag", "y unused", then, PAIR)], "y")
    after = rewrite(model)
    assert after.ops == {"Relu": 1}
    assert_same_answers(model, after.model)


def test_inlined_nodes_keep_their_doc_string_and_metadata() -> None:
    inner = node("Relu", "x", "a", doc_string="clips")
    inner.metadata_props.add(key="scope", value="block")
    outer = choice("flag", "y", branch([inner], "a"), negative())
    outer.doc_string = "chooses"
    outer.metadata_props.add(key="kind", value="choice")
    (kept,) = rewrite(model_of([outer], "y"), RULE).model.graph.node
    assert kept.doc_string == "clips"
    assert {each.key: each.value for each in kept.metadata_props} == {"scope": "block", "kind": "choice"}


def test_in_a_function() -> None:
    weight = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True)))
    inner = [weight, choice("c", "y", relu(), negative())]
    call = calling(inner)
    after = rewrite(call, RULE)
    assert after.fired == {RULE: 1}
    assert [each.op_type for each in after.model.functions[0].node] == ["Relu"]
    assert_same_answers(call, after.model)


def test_keeps_out_of_a_function_that_would_get_initializers() -> None:
    weight = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True)))
    scaled = branch([node("Mul", "x w", "a")], "a", {"w": f32([1, 2, 3])})
    inner = [weight, choice("c", "y", scaled, negative())]
    call = calling(inner)
    after = rewrite(call, RULE)
    assert after.fired == {}
    assert after.declined[RULE] == {"a local function cannot hold the initializers of the body": 1}
    assert_same_answers(call, after.model)


@pytest.mark.parametrize("overridable", [False, True])
def test_keeps_out_of_a_condition_that_may_come_with_a_run(overridable: bool) -> None:
    nodes = [choice("flag", "y", relu(), negative())]
    if overridable:
        model = make_model(nodes, {"x": ["n"]}, ["y"], {"flag": np.array(True)}, overridable=["flag"])
    else:
        more = [node("ReduceSum", "x", "s", keepdims=0), node("Cast", "s", "flag", to=TensorProto.BOOL)]
        model = make_model([*more, *nodes], {"x": ["n"]}, ["y"])
    after = rewrite(model, RULE)
    assert (after.fired, after.declined) == ({}, {})
    assert_same_answers(model, after.model)


def test_a_name_that_one_other_body_shares() -> None:
    # The names were counted when the branch had been emptied.
    def exp(name: str, output: str) -> onnx.GraphProto:
        return branch([node("Abs", "x", name), node("Exp", name, output)], output)

    nodes = [
        node("ReduceSum", "x", "sum", keepdims=0),
        node("Greater", "sum sum", "given"),
        choice("flag", "y", exp("t", "a"), exp("u", "b")),
        choice("given", "z", exp("t", "c"), exp("v", "d")),
    ]
    model = model_of(nodes, "y z")
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model)
