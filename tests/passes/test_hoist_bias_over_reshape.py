"""hoist_bias_over_reshape: what fires, and each precondition broken once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest

from tests.helpers import assert_same_answers, node, random_feeds, rewrite
from tests.passes.chains import Dims, assert_merges, chain, ints
from tests.passes.fusions import assert_stays

RULE = "hoist_bias_over_reshape"
RNG = np.random.default_rng(4)
APART = "the Reshape does not take columns apart"
ROWS = "the constant differs from row to row"
LEFT = {"MatMul": 1, "Add": 1, "Reshape": 1}


def bias(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


W = bias(6, 12)


def split(
    c: np.ndarray,
    target: Sequence[int] = (-1, 5, 3, 4),
    dims: Dims = ("batch", 5, 6),
    *,
    product: str = "MatMul",
    opset: int = 17,
    overridable: Sequence[str] = (),
    outputs: Sequence[str] = ("out",),
) -> onnx.ModelProto:
    """A product whose 12 columns are taken apart before c is added."""
    nodes = [
        node(product, "x w b" if product == "Gemm" else "x w", "p"),
        node("Reshape", "p target", "r"),
        node("Add", "r c", "y"),
    ]
    weights = {"w": W, "c": c, **ints(target=target), **({"b": bias(12)} if product == "Gemm" else {})}
    return chain(nodes, dims, weights, opset=opset, overridable=overridable, outputs=outputs)


@pytest.mark.parametrize("shape", [(3, 4), (4,), (3, 1), (1, 4), (1, 1, 3, 4), (1,), ()], ids=str)
def test_fires(shape: tuple[int, ...]) -> None:
    after = assert_merges(RULE, split(bias(*shape)), LEFT)
    assert [each.op_type for each in after.model.graph.node] == [
        "Identity",
        "MatMul",
        "Add",
        "Reshape",
        "Identity",
    ]


def test_fires_behind_a_gemm() -> None:
    model = split(bias(3, 4), (5, -1, 3, 4), ("rows", 6), product="Gemm")
    after = rewrite(model, RULE)
    assert after.ops == {"Identity": 2, "Gemm": 1, "Add": 1, "Reshape": 1}
    assert_same_answers(model, after.model, random_feeds(model, rows=10))


@pytest.mark.parametrize("target", [(0, 0, 3, 4), (-1, 2, 3, 2), (-1, 1, 12, 1), (-1, 3, 4)], ids=str)
def test_fires_whatever_becomes_of_the_rows(target: tuple[int, ...]) -> None:
    assert_merges(RULE, split(bias(*target[-2:]), target), LEFT)


def test_gemm_then_takes_it_in() -> None:
    model = split(bias(3, 4), dims=(10, 6))
    after = rewrite(model, RULE, "fuse_matmul_add")
    assert after.ops == {"Identity": 2, "Gemm": 1, "Reshape": 1}
    assert_same_answers(model, after.model)


def test_leaves_a_product_that_others_use() -> None:
    model = split(bias(3, 4), outputs=["out", "p"])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model)


def test_keeps_out_of_a_reshape_that_others_use() -> None:
    assert_stays(split(bias(3, 4), outputs=["out", "r"]), RULE, "the result of Reshape is a graph output")


@pytest.mark.parametrize(
    ("target", "dims"),
    [((-1, 12), ("batch", 5, 6)), ((-1, 5, 4), (2, 5, 6)), ((3, -1, 4), (2, 5, 6))],
    ids=str,
)
def test_keeps_out_of_other_reshapes(target: tuple[int, ...], dims: Dims) -> None:
    assert_stays(split(bias(target[-1]), target, dims), RULE, APART)


@pytest.mark.parametrize("shape", [(5, 3, 4), (5, 1, 1), (5, 1, 4)], ids=str)
def test_keeps_out_of_rows_that_differ(shape: tuple[int, ...]) -> None:
    assert_stays(split(bias(*shape)), RULE, ROWS)


def test_keeps_out_of_a_constant_that_adds_an_axis() -> None:
    assert_stays(split(bias(1, 1, 1, 3, 4)), RULE, ROWS)


@pytest.mark.parametrize("name", ["c", "w"])
def test_keeps_out_of_weights_that_may_come_with_a_run(name: str) -> None:
    assert_stays(split(bias(3, 4), overridable=[name]), RULE, "")
