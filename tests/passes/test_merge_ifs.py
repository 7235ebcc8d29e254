"""merge_ifs: what stands between two Ifs, and what the second reads of the first."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.helpers import f32, node, rewrite
from tests.passes.ifs import assert_same_on_both_sides, branch, choice, model_of

RULE = "merge_ifs"


def pick(output: str, source: str, then: str, other: str, *, on: str = "negative") -> onnx.NodeProto:
    """An If between two operators on one value; its branches use the same names everywhere."""
    return choice(
        output,
        branch([node("Mul", f"{source} w", "t"), node(then, "t", "r")], "r", {"w": f32([1, 2, 3, 4])}),
        branch([node("Mul", f"{source} w", "t"), node(other, "t", "r")], "r", {"w": f32([4, 3, 2, 1])}),
        on=on,
    )


@pytest.mark.parametrize("outputs", ["b", "a b", "b a"])
@pytest.mark.parametrize("source", ["x", "a"])
def test_merges(source: str, outputs: str) -> None:
    model = model_of([pick("a", "x", "Relu", "Neg"), pick("b", source, "Abs", "Exp")], outputs)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops["If"] == 1
    assert_same_on_both_sides(model, after.model)
    assert_same_on_both_sides(model, rewrite(model).model)


def absolute(name: str, output: str) -> onnx.GraphProto:
    """A branch that computes |x| under a name that another body may use too."""
    return branch([node("Abs", "x", name), node("Exp", name, output)], output)


def test_names_that_two_bodies_share() -> None:
    nodes = [
        choice("a", absolute("t", "p"), absolute("u", "q")),
        choice("b", absolute("t", "p"), absolute("v", "r")),
    ]
    model = model_of(nodes, "a b")
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_on_both_sides(model, after.model)


@pytest.mark.parametrize("first", [False, True])
def test_names_that_an_if_inside_the_other_branch_shares(first: bool) -> None:
    inner = choice("i", absolute("t", "p"), absolute("t", "q"), on="flag")
    nodes = [
        choice("a", absolute("t", "r"), absolute("t", "s")),
        choice("b", branch([inner], "i"), absolute("v", "w")),
    ]
    model = model_of([node("Less", "zero sum", "flag"), *(nodes[::-1] if first else nodes)], "a b")
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_on_both_sides(model, after.model)


def test_merges_three_over_what_does_not_read_them() -> None:
    nodes = [
        pick("a", "x", "Relu", "Neg"),
        node("Abs", "x", "u"),
        pick("b", "a", "Abs", "Exp"),
        node("Sin", "u", "v"),
        pick("c", "v", "Neg", "Relu"),
        node("Sum", "a b c v", "y"),
    ]
    model = model_of(nodes, "y")
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    assert_same_on_both_sides(model, after.model)


def test_the_second_reads_the_first_from_an_if_inside() -> None:
    inner = choice("i", branch([node("Exp", "a", "e")], "e"), branch([node("Sin", "a", "s")], "s"), on="flag")
    nodes = [
        pick("a", "x", "Relu", "Neg"),
        choice("y", branch([inner], "i"), branch([node("Cos", "a", "c")], "c")),
    ]
    model = model_of([node("Less", "zero sum", "flag"), *nodes], "y")
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_on_both_sides(model, after.model)


BETWEEN = {
    "a node": [node("Exp", "a", "u"), pick("b", "u", "Abs", "Exp")],
    "a branch": [
        choice("u", branch([node("Exp", "a", "e")], "e"), branch([node("Sin", "x", "s")], "s"), on="flag"),
        pick("b", "u", "Abs", "Exp"),
    ],
}


@pytest.mark.parametrize("case", BETWEEN)
def test_keeps_apart_what_something_between_reads(case: str) -> None:
    first = [node("Less", "zero sum", "flag"), pick("a", "x", "Relu", "Neg")]
    model = model_of([*first, *BETWEEN[case]], "b")
    assert rewrite(model, RULE).fired == {}


def test_keeps_other_conditions_apart() -> None:
    other = node("Less", "zero sum", "positive")
    model = model_of(
        [other, pick("a", "x", "Relu", "Neg"), pick("b", "x", "Abs", "Exp", on="positive")], "a b"
    )
    assert rewrite(model, RULE).fired == {}


def test_merges_in_a_branch() -> None:
    inner = [pick("a", "x", "Relu", "Neg", on="flag"), pick("b", "a", "Abs", "Exp", on="flag")]
    nodes = [
        node("Cast", "one", "flag", to=onnx.TensorProto.BOOL),
        choice("y", branch(inner, "b"), branch([node("Neg", "x", "n")], "n")),
    ]
    model = model_of(nodes, "y", {"one": np.array(1, np.int32)})
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_on_both_sides(model, after.model)
