"""merge_gathers, fuse_slice_squeeze: what they keep out of and why, then what fires."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.helpers import make_model, node
from tests.passes.chains import Dims, assert_merges, assert_stays, chain, ints

GATHERS, PICK = "merge_gathers", "fuse_slice_squeeze"
BIG = 2**63 - 1


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("j", [1, [0, -1], [[2, 0], [1, 1]]])
def test_fires(axis: int, j: Sequence[int] | int) -> None:
    nodes = [node("Gather", "x i", "t", axis=axis), node("Gather", "t j", "y", axis=axis)]
    weights = {"i": np.array([2, -1, 0], np.int32), "j": np.array(j)}
    assert_merges(GATHERS, chain(nodes, [3, 4, 5], weights), {"Gather": 1})


@pytest.mark.parametrize(
    ("i", "axis", "j", "reason"),
    [
        ([2, 0], 1, [0], "they pick along other axes"),
        ([[2, 0]], 0, [0], "the first picks no list"),
        (2, 0, [0], "the first picks no list"),
        ([2, 0], 0, [2], "an index is out of range"),
    ],
)
def test_keeps(i: Sequence[int] | int, axis: int, j: Sequence[int], reason: str) -> None:
    nodes = [node("Gather", "x i", "t", axis=0), node("Gather", "t j", "y", axis=axis)]
    model = chain(nodes, [3, 4, 5], {"i": np.array(i), "j": np.array(j)})
    assert_stays(GATHERS, model, reason)


def test_keeps_what_others_use() -> None:
    nodes = [node("Gather", "x i", "t"), node("Gather", "t i", "y")]
    model = chain(nodes, [3, 4], ints(i=[0, 1]), outputs=["out", "t"])
    assert_stays(GATHERS, model, "the result of Gather is a graph output")


@pytest.mark.parametrize(
    ("dims", "bounds", "gone"),
    [
        ([3, "n", 4], ([1], [2], [0]), [0]),
        ([3, "n", 4], ([-1], [BIG], [-1]), [2]),
        ([3, "n", 4], ([-2], [-1], [2]), [-1]),
        ([3, "n", 4], ([0], [1]), [0]),
    ],
)
def test_picks(dims: Dims, bounds: Sequence[Sequence[int]], gone: Sequence[int]) -> None:
    assert_merges(PICK, picked(dims, bounds, gone), {"Gather": 1})


def test_picks_by_attributes() -> None:
    nodes = [node("Slice", "x", "t", starts=[1], ends=[2]), node("Squeeze", "t", "y", axes=[0])]
    assert_merges(PICK, chain(nodes, [3, 4], opset=9), {"Gather": 1})


@pytest.mark.parametrize(
    ("dims", "bounds", "gone", "reason"),
    [
        ([3, 1, 4], ([1], [2], [0]), [1], "another axis goes"),
        ([3, 1, 4], ([1], [2], [0]), [0, 1], "another axis goes"),
        (["n", 3], ([1], [5], [0]), [0], "it takes more than one"),
        (["n", 1], ([-1], [0], [0], [-1]), [1], "another axis goes"),
        ([3, 3], ([1, 0], [2, 3], [0, 1]), [0], "another axis goes"),
        ([1, 3], ([0], [BIG], [0]), [0], "it takes more than one"),
    ],
)
def test_keeps_a_slice(dims: Dims, bounds: Sequence[Sequence[int]], gone: Sequence[int], reason: str) -> None:
    assert_stays(PICK, picked(dims, bounds, gone), reason)


def picked(dims: Dims, bounds: Sequence[Sequence[int]], gone: Sequence[int]) -> onnx.ModelProto:
    """A Slice by (starts, ends, axes, steps), and a Squeeze."""
    names = ["starts", "ends", "axes", "steps"][: len(bounds)]
    weights = ints(**dict(zip(names, bounds, strict=True)), gone=gone)
    nodes = [node("Slice", " ".join(["x", *names]), "t"), node("Squeeze", "t gone", "y")]
    return chain(nodes, dims, weights)


def test_picks_no_texts() -> None:
    # onnxruntime's Gather copies but the first text of each row.
    nodes = [node("Slice", "x one two zero", "t"), node("Squeeze", "t zero", "y")]
    weights = ints(zero=[0], one=[1], two=[2])
    model = make_model(nodes, {"x": [3, 2]}, ["y"], weights, dtype=TensorProto.STRING)
    assert_stays(PICK, model, "Gather may not take texts")
