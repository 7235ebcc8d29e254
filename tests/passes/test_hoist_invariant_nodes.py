"""hoist_invariant_nodes: what no trip changes is computed before the Loop or Scan, if it is safe there."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers import all_nodes, assert_same_answers, f32, node, rewrite
from tests.passes.repetitions import (
    PASS,
    assert_fires,
    assert_same_courses,
    body_of,
    feeds,
    loop,
    loops_of,
    model_of,
)

RULE = "hoist_invariant_nodes"
STEP = node("MatMul", "s u", "t")


def branch(inner: onnx.NodeProto) -> onnx.GraphProto:
    info = helper.make_tensor_value_info(inner.output[0], TensorProto.FLOAT, None)
    return helper.make_graph([inner], "branch", [], [info])


def inside(model: onnx.ModelProto) -> list[str]:
    """The operators in the bodies of Loops and Scans."""
    return [each.op_type for kept in loops_of(model) for each in kept.attribute[0].g.node]


@pytest.mark.parametrize("limit", ["n3", "times"])
@pytest.mark.parametrize("op_type", ["Tanh", "Transpose", "Neg"])
def test_a_node_that_cannot_fail(op_type: str, limit: str) -> None:
    body = body_of([PASS, node(op_type, "v", "u"), STEP], "i go s", "again t")
    after = assert_fires(model_of([loop(f"{limit} flag x", "y", body)], "y"), RULE)
    assert inside(after) == ["Identity", "MatMul"]
    assert [each.op_type for each in after.graph.node] == [op_type, "Loop"]


def test_a_chain() -> None:
    nodes = [node("MatMul", "v v", "a"), node("Exp", "v", "b"), node("Add", "a b", "u"), PASS, STEP]
    after = assert_fires(
        model_of([loop("times flag x", "y", body_of(nodes, "i go s", "again t"))], "y"), RULE, 3
    )
    assert inside(after) == ["Identity", "MatMul"]


def test_of_several_outputs() -> None:
    nodes = [PASS, node("Split", "v", "a b c", axis=1), node("Add", "a c", "d")]
    nodes += [node("Mul", "s d", "m"), node("ReduceMax", "m", "t", axes=[0])]
    after = assert_fires(model_of([loop("n3 yes x", "y", body_of(nodes, "i go s", "again t"))], "y"), RULE, 2)
    assert inside(after) == ["Identity", "Mul", "ReduceMax"]


def test_constants_of_the_body_go_along() -> None:
    nodes = [PASS, node("Mul", "v k", "u"), STEP, node("Sub", "t k", "z")]
    body = body_of(nodes, "i go s", "again t z", {"k": f32([[1, 2, 3]])})
    after = assert_fires(model_of([loop("n3 yes x", "y z", body)], "y z:3"), RULE)
    assert inside(after) == ["Identity", "MatMul", "Sub"]
    assert "k" in {each.name for each in after.graph.initializer}


def test_neighbours_whose_bodies_share_names() -> None:
    def body(factor: float) -> onnx.GraphProto:
        return body_of([PASS, node("Mul", "v k", "u"), STEP], "i go s", "again t", {"k": f32([factor])})

    nodes = [loop("n3 yes x", "a", body(0.5)), loop("n3 yes a", "y", body(-2))]
    assert_fires(model_of(nodes, "a y"), RULE, 2)


def test_out_of_two_loops() -> None:
    nodes = [
        node("Tanh", "v", "u"),
        node("Neg", "m", "h"),
        node("MatMul", "p u", "o"),
        node("Add", "o h", "q"),
    ]
    inner = body_of([node("Identity", "go_", "again_"), *nodes], "i_ go_ p", "again_ q")
    outer = body_of([PASS, node("MatMul", "s v", "m"), loop("n3 yes m", "t", inner)], "i go s", "again t")
    after = assert_fires(model_of([loop("times flag x", "y", outer)], "y"), RULE, 3)
    assert [each.op_type for each in after.graph.node] == ["Tanh", "Loop"]
    kept, within = (each.attribute[0].g for each in loops_of(after))
    assert [each.op_type for each in kept.node] == ["Identity", "MatMul", "Neg", "Loop"]
    assert [each.op_type for each in within.node] == ["Identity", "MatMul", "Add"]


def test_out_of_a_loop_in_a_branch() -> None:
    body = body_of([PASS, node("Tanh", "v", "u"), STEP], "i go s", "again t")
    then = helper.make_graph(
        [loop("times yes x", "p", body)],
        "then",
        [],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, None)],
    )
    other = helper.make_graph(
        [node("Neg", "x", "e")], "else", [], [helper.make_tensor_value_info("e", TensorProto.FLOAT, None)]
    )
    model = model_of([node("If", "flag", "y", then_branch=then, else_branch=other)], "y")
    after = assert_fires(model, RULE)
    (then,) = [each.g for each in after.graph.node[0].attribute if each.name == "then_branch"]
    assert [each.op_type for each in then.node] == ["Tanh", "Loop"]


@pytest.mark.parametrize("rows", ["v", "some"])
def test_scan(rows: str) -> None:
    nodes = [node("Tanh", "v", "u"), node("MatMul", "s u", "m"), node("Add", "m r", "t")]
    body = body_of([*nodes, node("Identity", "t", "z")], "s r", "t z")
    cut = [node("Reshape", "times one", "end"), node("Slice", "v zero end", "some")]
    scan = helper.make_node("Scan", ["x", rows], ["y", "z"], body=body, num_scan_inputs=1)
    model = model_of([*cut, scan], "y z:3", {"one": [1], "zero": [0]})
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert inside(after.model) == ["MatMul", "Add", "Identity"]
    assert_same_answers(model, after.model, feeds(2))
    assert_same_answers(model, rewrite(model).model, feeds(2))


def test_what_may_fail_waits_for_a_trip() -> None:
    """A Loop without a trip does not ask whether the shapes fit."""
    picked = [PASS, node("Gather", "v times", "g", axis=0), node("Add", "s g", "t")]
    body = body_of(picked, "i go s", "again t")
    model = model_of([loop("times flag x", "y", body)], "y")
    after = rewrite(model, RULE)
    assert after.fired == {}
    for each in (feeds(2), feeds(5, flag=False)):
        assert_same_answers(model, rewrite(model).model, each)
    certain = model_of([loop("n3 yes x", "y", body)], "y")
    after = rewrite(certain, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(certain, after.model, feeds(2))


KEPT = {
    "reads a state": [node("Neg", "s", "h"), node("MatMul", "h v", "t")],
    "reads the number of the trip": [
        node("CastLike", "i v", "f"),
        node("Mul", "v f", "u"),
        STEP,
    ],
    "only constants": [node("Transpose", "w0", "u"), STEP],
    "random": [
        node("RandomUniformLike", "v", "r", seed=3.0),
        node("Shape", "s", "d"),
        node("Expand", "x d", "t"),
    ],
    "large": [node("Shape", "s", "d"), node("Expand", "x shape", "e"), node("Add", "s e", "t")],
    "a body": [
        node(
            "If",
            "flag",
            "u",
            then_branch=branch(node("Neg", "v", "p")),
            else_branch=branch(node("Exp", "v", "e")),
        ),
        STEP,
    ],
    "quantizes": [node("QuantizeLinear", "v scale", "q"), node("DequantizeLinear", "q scale", "u"), STEP],
    "passed out": [node("Neg", "x", "t")],
}


@pytest.mark.parametrize("case", KEPT)
def test_keeps_out_of_what(case: str) -> None:
    body = body_of(
        [PASS, *KEPT[case]], "i go s", "again t", {"scale": np.float32(0.5), "shape": np.array([1, 3])}
    )
    model = model_of([loop("n3 yes x", "y", body)], "y")
    assert rewrite(model, RULE).fired == {}
    assert_same_courses(model, rewrite(model, skip=["unroll_loops"]).model)


def test_keeps_out_of_functions() -> None:
    body = body_of([PASS, node("Tanh", "m", "u"), STEP], "i go s", "again t")
    constant = node("Constant", "", "c", value_int=2)
    imports = [helper.make_opsetid("", 17)]
    function = helper.make_function(
        "test", "F", ["p", "m"], ["q"], [constant, loop("c - p", "q", body)], imports
    )
    model = model_of([helper.make_node("F", ["x", "v"], ["y"], domain="test")], "y", functions=[function])
    assert rewrite(model, RULE).fired == {}
    assert_same_courses(model, rewrite(model).model)


def test_weights_stay_where_they_are_read() -> None:
    """A constant that a node takes along and that the body still reads is stored once, outside."""
    body = body_of(
        [PASS, node("MatMul", "v w0", "u"), node("MatMul", "s w0", "a"), node("MatMul", "a u", "t")],
        "i go s",
        "again t",
    )
    after = rewrite(model_of([loop("times flag x", "y", body)], "y"))
    assert after.fired[RULE] == 1
    kept = [each.name for each in after.model.graph.initializer if list(each.dims) == [3, 3]]
    assert len(kept) == 1
    assert not [each for each in all_nodes(after.model.graph) if each.op_type == "Constant"]
