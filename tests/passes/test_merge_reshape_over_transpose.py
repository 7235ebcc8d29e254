"""merge_reshape_over_transpose: what fires, then what it keeps out of."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import pytest

from tests.helpers import node
from tests.passes.chains import Dims, assert_merges, assert_stays, chain, ints

RULE = "merge_reshape_over_transpose"


def around(
    dims: Dims, merged: Sequence[int], perm: Sequence[int], last: Sequence[int], opset: int = 17
) -> onnx.ModelProto:
    nodes = [
        node("Reshape", "x merged", "a"),
        node("Transpose", "a", "b", perm=perm),
        node("Reshape", "b last", "y"),
    ]
    return chain(nodes, dims, ints(merged=merged, last=last), opset=opset)


@pytest.mark.parametrize("opset", [7, 13, 18])
@pytest.mark.parametrize(
    ("dims", "merged", "perm", "last"),
    [
        pytest.param(["n", 5, 4, 6], [0, 5, -1], [0, 2, 1], [-1, 5], id="patches"),
        pytest.param(["n", 4, 6, 5], [0, -1, 5], [0, 2, 1], [-1, 24], id="and back"),
        pytest.param(["n", 3, 4, 6, 5], [0, 3, -1, 5], [0, 2, 1, 3], [-1, 15], id="in the middle"),
        pytest.param([2, 5, 2, 3, 4], [2, 5, 24], [0, 2, 1], [8, 6, 5], id="three axes"),
    ],
)
def test_fires(dims: Dims, merged: list[int], perm: list[int], last: list[int], opset: int) -> None:
    assert_merges(RULE, around(dims, merged, perm, last, opset), {"Transpose": 1, "Reshape": 1})


@pytest.mark.parametrize(
    ("dims", "merged", "perm", "last", "reason"),
    [
        pytest.param(
            ["n", 20, 6],
            [0, 4, 5, 6],
            [0, 2, 1, 3],
            [-1, 6],
            "several axes move, or the dims are unknown",
            id="splits",
        ),
        pytest.param(
            ["n", 2, 3, 4, 5],
            [0, 6, 20],
            [2, 1, 0],
            [20, -1],
            "several axes move, or the dims are unknown",
            id="several axes move",
        ),
        pytest.param(
            ["n", 5, "h", 6],
            [-1, 5, 6],
            [0, 2, 1],
            [-1, 5],
            "several axes move, or the dims are unknown",
            id="unknown",
        ),
    ],
)
def test_keeps(dims: Dims, merged: list[int], perm: list[int], last: list[int], reason: str) -> None:
    assert_stays(RULE, around(dims, merged, perm, last), reason)


def test_leaves_what_others_use() -> None:
    model = around(["n", 5, 4, 6], [0, 5, -1], [0, 2, 1], [-1, 5])
    model.graph.output.append(onnx.helper.make_tensor_value_info("a", 1, ["n", 5, 24]))
    assert_stays(RULE, model, "the result of Reshape is a graph output")
