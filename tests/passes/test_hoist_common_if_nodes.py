"""hoist_common_if_nodes: what both branches compute, and what only looks like it."""

from __future__ import annotations

import onnx
import pytest

from tests.helpers import f32, node, rewrite
from tests.passes.ifs import assert_same_on_both_sides, branch, choice, model_of

RULE = "hoist_common_if_nodes"


def test_takes_out_a_chain_with_its_constants() -> None:
    def body(last: str, product: str) -> onnx.GraphProto:
        nodes = [node("Mul", "x w", product), node("Exp", product, "e"), node(last, f"e {product}", "r")]
        return branch(nodes, "r", {"w": f32([1, 2, 3, 4])})

    model = model_of([choice("y", body("Add", "p"), body("Sub", "q"))], "y")
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    assert {op: after.ops[op] for op in ("Mul", "Exp", "Add", "Sub")} == dict.fromkeys(
        ("Mul", "Exp", "Add", "Sub"), 1
    )
    assert [each.op_type for each in after.model.graph.node][-3:] == ["Mul", "Exp", "If"]
    assert_same_on_both_sides(model, after.model)


@pytest.mark.parametrize("outputs", ["y z", "z y", "y", "z"])
def test_a_result_that_both_pass_out_leaves_the_if(outputs: str) -> None:
    then = branch([node("Relu", "x", "a"), node("Exp", "a", "b")], "a b")
    other = branch([node("Relu", "x", "c"), node("Neg", "c", "d")], "c d")
    model = model_of([choice("y z", then, other)], outputs)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert len(after.model.graph.node[-1].output) == 1
    assert_same_on_both_sides(model, after.model)


@pytest.mark.parametrize("outputs", ["y z", "s"])
def test_an_if_whose_branches_are_the_same_disappears(outputs: str) -> None:
    same = branch([node("Relu", "x", "a"), node("Identity", "x", "b")], "a b")
    model = model_of([choice("y z", same, same), node("Add", "y z", "s")], outputs)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    assert "If" not in after.ops
    assert_same_on_both_sides(model, after.model)


def test_an_inner_if_first() -> None:
    def body(last: str) -> onnx.GraphProto:
        inner = choice(
            "i",
            branch([node("Exp", "x", "e"), node("Sin", "e", "f")], "f"),
            branch([node("Exp", "x", "e"), node("Cos", "e", "f")], "f"),
            on="flag",
        )
        return branch([inner, node(last, "i", "r")], "r")

    nodes = [node("Less", "zero sum", "flag"), choice("y", body("Neg"), body("Abs"))]
    model = model_of(nodes, "y")
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 3}
    assert after.ops["Exp"] == 1
    assert_same_on_both_sides(model, after.model)


# each pair of branches differs in one thing
APART = {
    "one branch alone": (branch([node("Relu", "x", "a")], "a"), branch([node("Neg", "x", "a")], "a")),
    "another place": (
        branch([node("Relu", "x", "a"), node("Neg", "x", "b")], "a b"),
        branch([node("Relu", "x", "a"), node("Neg", "x", "b")], "b a"),
    ),
    "a result here, an inner value there": (
        branch([node("Relu", "x", "a")], "a"),
        branch([node("Relu", "x", "a"), node("Neg", "a", "b")], "b"),
    ),
    "other constants": (
        branch([node("Mul", "x w", "a"), node("Exp", "a", "b")], "b", {"w": f32(0)}),
        branch([node("Mul", "x w", "a"), node("Sin", "a", "b")], "b", {"w": f32(-0.0)}),
    ),
    "random": (
        branch([node("RandomNormalLike", "x", "a"), node("Exp", "a", "b")], "b"),
        branch([node("RandomNormalLike", "x", "a"), node("Sin", "a", "b")], "b"),
    ),
}


@pytest.mark.parametrize("case", APART)
def test_keeps_apart(case: str) -> None:
    names = "y z" if "place" in case else "y"
    model = model_of([choice(names, *APART[case])], names)
    assert rewrite(model, RULE).fired == {}


def test_names_that_other_branches_use_stay_theirs() -> None:
    def twin(last: str) -> onnx.GraphProto:
        return branch([node("Relu", "x", "t"), node(last, "t", "r")], "r")

    def plain(first: str) -> onnx.GraphProto:
        return branch([node(first, "x", "t"), node("Exp", "t", "r")], "r")

    nodes = [
        choice("y", twin("Neg"), twin("Abs")),
        choice("z", plain("Sin"), plain("Cos")),
    ]
    model = model_of(nodes, "y z")
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_on_both_sides(model, after.model)
