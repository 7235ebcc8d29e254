"""swap_transposed_product: what fires, and each precondition broken once."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import pytest

from tests.helpers import assert_same_answers, make_model, node, rewrite
from tests.passes.fusions import assert_stays

RULE = "swap_transposed_product"
SWAP = (0, 1, 3, 2)
HEADS, KEYS = (0, 2, 1, 3), (0, 2, 3, 1)


def product(
    a: Sequence[int] | None = HEADS,
    b: Sequence[int] | None = KEYS,
    swap: Sequence[int] | None = SWAP,
    outputs: Sequence[str] = ("y",),
) -> onnx.ModelProto:
    """Keys [n, 5, h, 8] times queries [n, 7, h, 8], transposed; a perm of None is the default."""
    nodes = [
        node("Transpose", "k", "a", **({} if a is None else {"perm": a})),
        node("Transpose", "q", "b", **({} if b is None else {"perm": b})),
        node("MatMul", "a b", "p"),
        node("Transpose", "p", "y", **({} if swap is None else {"perm": swap})),
    ]
    return make_model(nodes, {"k": ("n", 5, "h", 8), "q": ("n", 7, "h", 8)}, outputs)


@pytest.mark.parametrize(("a", "b"), [(HEADS, KEYS), ((2, 0, 1, 3), (2, 0, 3, 1))])
def test_fires(a: Sequence[int], b: Sequence[int]) -> None:
    model = product(a, b)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Transpose": 2, "MatMul": 1}
    assert_same_answers(model, after.model)


def test_keeps_whole_rows_together() -> None:
    after = rewrite(product(), RULE).model
    perms = {
        each.input[0]: list(each.attribute[0].ints)
        for each in after.graph.node
        if each.op_type == "Transpose"
    }
    assert perms == {"q": [0, 2, 1, 3], "k": [0, 2, 3, 1]}


def test_keeps_out_where_rows_would_come_apart() -> None:
    nodes = [
        node("Transpose", "k", "a", perm=HEADS),
        node("Transpose", "q", "b", perm=HEADS),
        node("MatMul", "a b", "p"),
        node("Transpose", "p", "y", perm=SWAP),
    ]
    model = make_model(nodes, {"k": ("n", 5, "h", 8), "q": ("n", 8, "h", 7)}, ["y"])
    assert_stays(model, RULE, "rows would come apart")


def test_keeps_out_of_other_perms() -> None:
    assert_stays(product(swap=(1, 0, 3, 2)), RULE, "it does not swap the last two axes")
    assert_stays(product(swap=None), RULE, "a perm is unknown")


def test_keeps_out_of_operands_of_different_ranks() -> None:
    nodes = [
        node("Transpose", "k", "a", perm=(0, 2, 1, 3)),
        node("Transpose", "q", "b", perm=(1, 0)),
        node("MatMul", "a b", "p"),
        node("Transpose", "p", "y", perm=SWAP),
    ]
    model = make_model(nodes, {"k": ("n", 5, "h", 8), "q": (7, 8)}, ["y"])
    assert_stays(model, RULE, "a perm is unknown")


@pytest.mark.parametrize(("name", "op_type"), [("a", "Transpose"), ("b", "Transpose"), ("p", "MatMul")])
def test_leaves_inner_values_that_are_outputs(name: str, op_type: str) -> None:
    assert_stays(product(outputs=["y", name]), RULE, f"the result of {op_type} is a graph output")


def test_keeps_out_of_operands_that_are_not_transposed() -> None:
    nodes = [
        node("Transpose", "q", "b", perm=(0, 1, 3, 2)),
        node("MatMul", "k b", "p"),
        node("Transpose", "p", "y", perm=SWAP),
    ]
    assert_stays(make_model(nodes, {"k": ("n", 3, 5, 8), "q": ("n", 3, 7, 8)}, ["y"]), RULE, "")
