"""compute_on_matrices: the regions that become matrices though that saves no node, and those that stay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest

from fuseonnx.passes import fuse_matmul_add, merge_leading_axes
from fuseonnx.passes.compute_on_matrices import RULE
from tests.helpers import assert_same_answers, f32, make_model, node, random_feeds
from tests.passes.folds import in_branches
from tests.passes.forms import rewrite_form

RNG = np.random.default_rng(0)
WEIGHTS = {
    "w": f32(RNG.normal(size=(8, 12))),
    "v": f32(RNG.normal(size=12)),
    "w2": f32(RNG.normal(size=(12, 8))),
    "v2": f32(RNG.normal(size=8)),
    "gamma": f32(RNG.normal(size=8)),
}
NORMALIZED = node("LayerNormalization", "x gamma", "n")
FIRST = [node("MatMul", "n w", "a0"), node("Add", "a0 v", "a")]
SECOND = [node("MatMul", "g w2", "b0"), node("Add", "b0 v2", "y")]
BLOCK = [NORMALIZED, *FIRST, node("Relu", "a", "g"), *SECOND]
IMAGE = ("batch", 5, 6, 8)


def block(
    nodes: Sequence[onnx.NodeProto] = BLOCK,
    dims: Sequence[int | str] = IMAGE,
    outputs: Sequence[str] = ("y",),
) -> onnx.ModelProto:
    """The nodes on x [batch, 5, 6, 8]."""
    used = {name for each in nodes for name in each.input}
    return make_model(nodes, {"x": dims}, outputs, {name: WEIGHTS[name] for name in WEIGHTS if name in used})


@pytest.mark.parametrize("dims", [IMAGE, (2, 5, 8), ("batch", 5, 8)])
def test_changes_what_saves_no_node(dims: Sequence[int | str]) -> None:
    model = block(dims=dims)
    assert rewrite_form(model, merge_leading_axes.RULE).fired == {}
    after = rewrite_form(model, RULE, fuse_matmul_add.RULE)
    assert after.fired == {RULE.name: 1, fuse_matmul_add.RULE.name: 2}
    assert after.ops == {"Reshape": 2, "LayerNormalization": 1, "Gemm": 2, "Relu": 1}
    assert [each.name for each in after.model.graph.output] == ["y"]
    assert_same_answers(model, after.model)
    assert rewrite_form(after.model, RULE).fired == {}


def test_changes_a_region_at_the_price_of_two_nodes() -> None:
    model = block(outputs=["n", "a", "y"])
    after = rewrite_form(model, RULE, fuse_matmul_add.RULE)
    assert after.ops == {"Reshape": 4, "LayerNormalization": 1, "Gemm": 2, "Relu": 1}
    assert_same_answers(model, after.model)


def test_keeps_out_where_more_nodes_are_added() -> None:
    assert rewrite_form(block(outputs=["n", "a", "g", "y"]), RULE).fired == {}


def test_keeps_out_of_regions_without_a_product() -> None:
    assert rewrite_form(block([NORMALIZED, node("Relu", "n", "y")]), RULE).fired == {}


def test_changes_both_branches_of_an_if() -> None:
    model = in_branches(block())
    after = rewrite_form(model, RULE, fuse_matmul_add.RULE)
    assert after.fired[RULE.name] == 2
    for flag in (True, False):
        assert_same_answers(model, after.model, {**random_feeds(model), "flag": np.array(flag)})
