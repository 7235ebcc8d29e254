"""merge_reduces, merge_squeeze_into_reduce: what they keep out of and why, then what fires."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import pytest
from onnx import TensorProto

from tests.helpers import node
from tests.passes.chains import assert_merges, assert_stays, chain, ints

RULE, SQUEEZE = "merge_reduces", "merge_squeeze_into_reduce"
DIMS = ("n", 3, 4, 5)


def pair(
    op: str, a: Sequence[int], b: Sequence[int], keeps: tuple[int, int], *, opset: int = 18, dtype: int = 1
) -> onnx.ModelProto:
    if opset >= 18 or (op == "ReduceSum" and opset >= 13):
        nodes = [
            node(op, "x a", "t", keepdims=keeps[0], name="first"),
            node(op, "t b", "y", keepdims=keeps[1]),
        ]
        return chain(nodes, DIMS, ints(a=a, b=b), opset=opset, dtype=dtype)
    nodes = [node(op, "x", "t", axes=a, keepdims=keeps[0]), node(op, "t", "y", axes=b, keepdims=keeps[1])]
    return chain(nodes, DIMS, opset=opset, dtype=dtype)


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMax", "ReduceMin", "ReduceMean"])
@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize(
    ("a", "b", "keeps"),
    [([3], [2], 0), ([2], [2], 0), ([2], [-1], 0), ([1, 3], [1], 0), ([3], [2], 1), ([1], [2, -1], 1)],
)
def test_fires(op: str, opset: int, a: Sequence[int], b: Sequence[int], keeps: int) -> None:
    assert_merges(RULE, pair(op, a, b, (keeps, keeps), opset=opset), {op: 1})


def test_fires_on_all_axes() -> None:
    assert_merges(RULE, pair("ReduceSum", [2, 3], [0, 1], (0, 0)), {"ReduceSum": 1})


def test_fires_on_integers() -> None:
    assert_merges(RULE, pair("ReduceSum", [3], [2], (0, 0), dtype=TensorProto.INT32), {"ReduceSum": 1})


@pytest.mark.parametrize(
    ("op", "a", "b", "keeps", "reason"),
    [
        ("ReduceSum", [1], [2], (0, 0), "the axes are no neighbours"),
        ("ReduceSum", [1], [0], (0, 0), "leading axes are slower at once"),
        ("ReduceSum", [3], [2], (1, 0), "the axes are unknown, or their sizes stay for some of them only"),
        ("ReduceSum", [3], [2], (0, 1), "the axes are unknown, or their sizes stay for some of them only"),
    ],
)
def test_keeps(op: str, a: Sequence[int], b: Sequence[int], keeps: tuple[int, int], reason: str) -> None:
    assert_stays(RULE, pair(op, a, b, keeps), reason)


def test_keeps_the_mean_of_integers() -> None:
    model = pair("ReduceMean", [3], [2], (0, 0), dtype=TensorProto.INT32)
    assert_stays(RULE, model, "the mean of integers is rounded")


def squeezed(
    reduction: onnx.NodeProto, gone: Sequence[int], outputs: Sequence[str] = ("out",)
) -> onnx.ModelProto:
    return chain([reduction, node("Squeeze", "t gone", "y")], DIMS, ints(gone=gone), outputs=outputs)


@pytest.mark.parametrize(
    ("reduction", "gone"),
    [
        (node("ReduceMean", "x", "t", axes=[2, 3]), [3, 2]),
        (node("ReduceMean", "x", "t", axes=[-1]), [3]),
        (node("ReduceMax", "x", "t", axes=[1], keepdims=1), [-3]),
        (node("ArgMax", "x", "t", axis=1), [1]),
    ],
)
def test_drops_the_axes(reduction: onnx.NodeProto, gone: Sequence[int]) -> None:
    assert_merges(SQUEEZE, squeezed(reduction, gone), {reduction.op_type: 1})


@pytest.mark.parametrize(
    ("reduction", "gone", "reason"),
    [
        (node("ReduceMean", "x", "t", axes=[2, 3]), [3], "other axes go"),
        (node("ReduceMean", "x", "t"), [3], "the axes are unknown"),
    ],
)
def test_keeps_other_axes(reduction: onnx.NodeProto, gone: Sequence[int], reason: str) -> None:
    assert_stays(SQUEEZE, squeezed(reduction, gone), reason)


def test_keeps_what_others_use() -> None:
    model = squeezed(node("ReduceMean", "x", "t", axes=[2]), [2], ["out", "t"])
    assert_stays(SQUEEZE, model, "the result of ReduceMean is a graph output")
