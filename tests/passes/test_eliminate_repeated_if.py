"""eliminate_repeated_if: an If on a condition that is known where it stands."""

from __future__ import annotations

import pytest

from tests.helpers import node, rewrite
from tests.passes.ifs import assert_same_on_both_sides, branch, choice, model_of

RULE = "eliminate_repeated_if"
INNER = choice("a", branch([node("Exp", "x", "p")], "p"), branch([node("Neg", "x", "q")], "q"))
OTHER = branch([node("Abs", "x", "b")], "b")


@pytest.mark.parametrize(("then", "left"), [(True, "Exp"), (False, "Neg")])
def test_takes_the_branch_of_the_outer_condition(then: bool, left: str) -> None:
    inner = branch([INNER], "a")
    model = model_of([choice("y", inner, OTHER) if then else choice("y", OTHER, inner)], "y")
    after = rewrite(model, RULE, "inline_constant_if")
    assert after.fired == {RULE: 1, "inline_constant_if": 1}
    assert {op: after.ops.get(op, 0) for op in ("If", "Exp", "Neg")} == {"If": 1, "Exp": 0, "Neg": 0, left: 1}
    assert_same_on_both_sides(model, after.model)


def test_keeps_another_condition() -> None:
    other = node("Less", "zero sum", "positive")
    model = model_of([other, choice("y", branch([INNER], "a"), OTHER, on="positive")], "y")
    assert rewrite(model, RULE).fired == {}


def test_keeps_neighbours() -> None:
    model = model_of([INNER, choice("y", branch([node("Relu", "a", "c")], "c"), OTHER)], "y")
    assert rewrite(model, RULE).fired == {}
