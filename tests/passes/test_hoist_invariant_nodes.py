"""hoist_invariant_nodes: what no trip changes is computed before the Loop or Scan, if it is safe there."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers import all_nodes, assert_same_answers, f32, node, rewrite
from tests.passes.repetitions import (
    PASS,
    WEIGHT,
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
    nodes = [PASS, node("Split", "v", "a b c", axis=1), node("Add", "a c", "d"), node("Mul", "s d", "t")]
    nodes[-1] = node("MatMul", "s d", "m")
    nodes.append(node("Add", "s m", "t"))
    after = assert_fires(model_of([loop("n3 yes x", "y", body_of(nodes, "i go s", "again t"))], "y"), RULE, 2)
    assert inside(after) == ["Identity", "MatMul", "Add"]


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
    inner = body_of(
        [
            node("Identity", "go_", "again_"),
            node("Tanh", "v", "u"),
            node("Neg", "t0", "h"),
            node("Add", "p h", "q"),
        ],
        "i_ go_ p",
        "again_ q",
    )
    inner.node.extend([])
    nodes = [PASS, node("MatMul", "s v", "t0"), loop("n3 yes t0", "t", inner)]
    inner.node[3].CopyFrom(node("MatMul", "p u", "o"))
    inner.node.append(node("Add", "o h", "q"))
    nodes = [PASS, node("MatMul", "s v", "t0"), loop("n3 yes t0", "t", inner)]
    after = assert_fires(
        model_of([loop("times flag x", "y", body_of(nodes, "i go s", "again t"))], "y"), RULE, 3
    )
    assert [each.op_type for each in after.graph.node] == ["Tanh", "Loop"]
    outer, within = loops_of(after)
    assert [each.op_type for each in outer.attribute[0].g.node] == ["Identity", "MatMul", "Neg", "Loop"]
    assert [each.op_type for each in within.attribute[0].g.node] == ["Identity", "MatMul", "Add"]


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
    (choice,) = after.graph.node
    assert [each.op_type for each in choice.attribute[0].g.node] == ["Tanh", "Loop"]


@pytest.mark.parametrize("rows", [3, 0])
def test_scan(rows: int) -> None:
    nodes = [
        node("Tanh", "v", "u"),
        node("MatMul", "s u", "m"),
        node("Add", "m r", "t"),
        node("Identity", "t", "z"),
    ]
    body = body_of(nodes, "s r", "t z")
    scan = helper.make_node("Scan", ["x", "table"], ["y", "z"], body=body, num_scan_inputs=1)
    model = model_of([scan], "y z:3")
    model.graph.input.append(helper.make_tensor_value_info("table", TensorProto.FLOAT, ["rows", 3]))
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    given = {**feeds(), "table": np.resize(WEIGHT, (rows, 3))}
    assert_same_answers(model, after.model, given)


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


def branch_of(nodes: list[onnx.NodeProto]) -> onnx.NodeProto:
    def branch(output: str) -> onnx.GraphProto:
        info = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        return helper.make_graph([node(nodes[0].op_type, "v", output)], "branch", [], [info])

    return node("If", "flag", "u", then_branch=branch("p"), else_branch=branch("e"))


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
    "a body": [branch_of([node("Neg", "v", "u")]), STEP],
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
