"""merge_wheres: what is dropped or exchanged, and when the dropped value counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from tests.helpers import assert_same_answers, f32, node, rewrite
from tests.passes.chains import assert_merges, assert_stays, chain

RULE = "merge_wheres"
NOT = node("Not", "c", "not")


def chosen(
    *nodes: onnx.NodeProto, dropped: npt.ArrayLike = 7, outputs: Sequence[str] = ("out",)
) -> onnx.ModelProto:
    weights = {"zero": f32(0), "one": f32(1), "two": f32([2, 3, 4]), "dropped": f32(dropped)}
    return chain([node("Greater", "x zero", "c"), *nodes], ["n", 3], weights, outputs=outputs)


INNER_LAST = node("Where", "c dropped x", "w"), node("Where", "c one w", "y")
INNER_FIRST = node("Where", "c x dropped", "w"), node("Where", "c w two", "y")


@pytest.mark.parametrize("nodes", [INNER_LAST, INNER_FIRST])
@pytest.mark.parametrize("dropped", [7, [7], [[7, 8, 9]]])
def test_chooses_once(nodes: Sequence[onnx.NodeProto], dropped: npt.ArrayLike) -> None:
    assert_merges(RULE, chosen(*nodes, dropped=dropped), {"Greater": 1, "Where": 1})


def test_exchanges_instead_of_negating() -> None:
    assert_merges(RULE, chosen(NOT, node("Where", "not x two", "y")), {"Greater": 1, "Where": 1})


def test_exchanges_beside_others_that_negate() -> None:
    model = chosen(NOT, node("Where", "not x two", "y"), outputs=["out", "not"])
    assert_merges(RULE, model, {"Greater": 1, "Not": 1, "Where": 1})


def test_masks_filled_both_ways() -> None:
    """As a Swin Transformer masks its windows, with what is not a number in place too."""
    model = chosen(NOT, node("Where", "not two x", "w"), node("Where", "c one w", "y"))
    feeds = {"in": f32([[np.nan, np.inf, -np.inf], [0.0, 1.0, -1.0]])}
    assert_merges(RULE, model, {"Greater": 1, "Where": 1}, feeds=feeds, times=2)


def test_keeps_what_broadcasts_the_result() -> None:
    nodes = node("Where", "c dropped x", "w"), node("Where", "c one w", "y")
    for dropped in (f32([[[7]]]), f32([[[1] * 3], [[2] * 3]])):
        assert_stays(RULE, chosen(*nodes, dropped=dropped), "what is dropped may broadcast the result")


def test_keeps_other_conditions() -> None:
    nodes = node("Less", "x one", "d"), node("Where", "d dropped x", "w"), node("Where", "c one w", "y")
    assert_stays(RULE, chosen(*nodes), "")


def test_leaves_inner_results_that_others_use() -> None:
    model = chosen(*INNER_LAST, outputs=["out", "w"])
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert_same_answers(model, after.model)
