"""fuse_log_softmax: what it has of its own; test_fuse_softmax.py has what holds for both."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers import node, random_feeds
from tests.passes.fusions import Spelling, assert_fuses, assert_stays
from tests.passes.softmaxes import DIMS

RULE = "fuse_log_softmax"
LEAVES = {"LogSoftmax": 1}


def below_log_sum_exp(source: str = "x", **attributes: object) -> Spelling:
    nodes = (node("ReduceLogSumExp", source, "l", **attributes), node("Sub", "x l", "y"))
    return Spelling(nodes)


LAST = below_log_sum_exp(axes=[-1])


@pytest.mark.parametrize("opset", [7, 13, 17])
def test_fuses_a_log_sum_exp(opset: int) -> None:
    assert_fuses(LAST.model(DIMS, opset=opset), RULE, leaves=LEAVES)


def test_fuses_a_log_sum_exp_with_axes_as_an_input() -> None:
    nodes = (node("ReduceLogSumExp", "x axes", "l"), LAST.nodes[1])
    model = Spelling(nodes, {"axes": np.array([1])}).model(DIMS, opset=18)
    assert_fuses(model, RULE, leaves=LEAVES)


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1000, -1e38])
def test_keeps_what_is_not_a_number_and_does_not_overflow(value: float) -> None:
    model = LAST.model(DIMS)
    feeds = random_feeds(model)
    feeds["x"][0, 0, 3] = value
    assert_fuses(model, RULE, leaves=LEAVES, feeds=feeds)


def test_keeps_out_of_several_axes_or_lost_ones() -> None:
    for spelling in (below_log_sum_exp(axes=[1, 2]), below_log_sum_exp()):
        assert_stays(spelling.model(DIMS), RULE, "it is not along one axis")
    lost = below_log_sum_exp(axes=[-1], keepdims=0)
    assert_stays(lost.model((8, 8)), RULE, "it is not along one axis")


def test_keeps_out_of_the_sum_of_another_value() -> None:
    assert_stays(below_log_sum_exp("other", axes=[-1]).model(DIMS), RULE, "")


def test_keeps_out_of_the_logarithm_of_a_softmax_which_underflows() -> None:
    nodes = (node("Softmax", "x", "p"), node("Log", "p", "y"))
    assert_stays(Spelling(nodes).model(DIMS), RULE, "")
