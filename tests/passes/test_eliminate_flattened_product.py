"""eliminate_flattened_product: what it keeps out of and why, then what fires."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest

from tests.helpers import assert_same_answers, node, random_feeds, rewrite
from tests.passes.chains import Dims, assert_merges, assert_stays, chain, ints

RULE = "eliminate_flattened_product"
RNG = np.random.default_rng(3)
W = RNG.normal(size=(6, 4)).astype(np.float32)
C = RNG.normal(size=4).astype(np.float32)


def product(
    dims: Dims,
    target: Sequence[int],
    *,
    rows: Sequence[int] = (-1, 6),
    w: np.ndarray = W,
    c: np.ndarray | None = C,
    outputs: Sequence[str] = ("out",),
    **attributes: Any,
) -> onnx.ModelProto:
    nodes = [
        node("Reshape", "x rows", "flat"),
        node("Gemm", "flat w c" if c is not None else "flat w", "p", **attributes),
        node("Reshape", "p target", "y"),
    ]
    weights = ints(rows=rows, target=target) | {"w": w} | ({} if c is None else {"c": c})
    return chain(nodes, dims, weights, outputs=outputs)


@pytest.mark.parametrize("c", [C, C[:1], C.reshape(1, 4), np.float32(2)])
def test_fires(c: np.ndarray) -> None:
    assert_merges(RULE, product([2, 5, 6], [2, 5, 4], c=c), {"MatMul": 1, "Add": 1})


def test_fires_without_a_bias() -> None:
    assert_merges(RULE, product([2, 5, 6], [2, 5, 4], c=None), {"MatMul": 1})


def test_fires_on_transposed_weights() -> None:
    model = product([2, 5, 6], [2, 5, 4], w=W.T.copy(), transB=1)
    assert_merges(RULE, model, {"MatMul": 1, "Add": 1})


def test_keeps_transposed_weights_that_others_use() -> None:
    nodes = [
        node("Reshape", "x rows", "flat"),
        node("Gemm", "flat w", "p", transB=1),
        node("Reshape", "p target", "y"),
        node("Relu", "w", "used"),
    ]
    weights = ints(rows=[-1, 6], target=[2, 5, 4]) | {"w": W.T.copy()}
    assert_stays(
        RULE, chain(nodes, [2, 5, 6], weights, outputs=["out", "used"]), "others use the transposed weights"
    )


@pytest.mark.parametrize(
    ("dims", "target"),
    [
        ([2, 5, 3, 2], [2, 5, 4]),
        (["batch", 5, 3, 2], [-1, 5, 4]),
        ([5, "batch", 2, 3], [5, -1, 4]),
        (["batch", 3, 2], [-1, 4]),
    ],
)
def test_joins_the_axes_of_a_row(dims: Dims, target: Sequence[int]) -> None:
    model = product(dims, target)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Identity": 2, "Reshape": 1, "MatMul": 1, "Add": 1}
    for batch in (0, 1, 4):
        assert_same_answers(model, after.model, random_feeds(model, batch=batch))


def test_fires_on_computed_dims() -> None:
    nodes = [
        node("Shape", "x", "dims", start=0, end=2),
        node("Concat", "dims width", "target", axis=0),
        node("Reshape", "x rows", "flat"),
        node("MatMul", "flat w", "p"),
        node("Reshape", "p target", "y", allowzero=1),
    ]
    weights = ints(rows=[-1, 6], width=[4]) | {"w": W}
    model = chain(nodes, ["batch", "sequence", 6], weights)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert "Reshape" not in after.ops
    for batch, sequence in ((2, 5), (1, 1), (0, 3)):
        feeds = random_feeds(model, batch=batch, sequence=sequence)
        assert_same_answers(model, after.model, {"in": feeds["in"].reshape(batch, sequence, 6)})


@pytest.mark.parametrize(
    ("dims", "target", "options", "reason"),
    [
        ([2, 5, 6], [5, 2, 4], {}, "the dims may differ"),
        ([2, 5, 6], [10, 1, 4], {}, "the dims may differ"),
        ([2, 5, 6], [2, 5, 2, 2], {}, "the dims may differ"),
        ([5, 2, 3, 2], [2, 5, 4], {}, "the dims may differ"),
        ([2, 5, 3, 2], [10, 4], {}, "the dims may differ"),
        ([2, 15, 2], [2, 5, 4], {}, "the dims may differ"),
        ([2, 5, "m", 2], [2, 5, 4], {}, "the dims may differ"),
        (["n", "m", 6], [-1, 5, 4], {}, "the dims may differ"),
        ([2, 5, 6], [2, 5, 4], {"alpha": 2.0}, "the product scales, or transposes the rows"),
        ([2, 5, 6], [2, 5, 4], {"beta": 2.0}, "the product scales, or transposes the rows"),
        (
            [2, 5, 6],
            [2, 5, 4],
            {"c": RNG.normal(size=(10, 4)).astype(np.float32)},
            "the bias is not one number for each column",
        ),
        (
            [2, 5, 6],
            [2, 5, 4],
            {"outputs": ["out", "p"]},
            "the result of Gemm is a graph output",
        ),
    ],
)
def test_keeps(dims: Dims, target: Sequence[int], options: dict[str, Any], reason: str) -> None:
    assert_stays(RULE, product(dims, target, **options), reason)
