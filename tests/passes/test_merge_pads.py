"""merge_pads and merge_slice_into_pad: what they keep out of and why, then what fires."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import pytest

from tests.helpers import f32, node
from tests.passes.chains import Dims, assert_merges, assert_stays, chain, ints

PADS, CROP = "merge_pads", "merge_slice_into_pad"
PAIR = [node("Pad", "x a c", "t"), node("Pad", "t b c", "y")]
BIG = 2**63 - 1


def test_fires() -> None:
    model = chain(PAIR, ["n", 3], ints(a=[0, 1, 2, 0], b=[1, 0, 0, 3]) | {"c": f32(0.5)})
    assert_merges(PADS, model, {"Pad": 1})


def test_fires_on_a_constant_that_is_left_out() -> None:
    nodes = [node("Pad", "x a", "t"), node("Pad", "t b zero", "y")]
    model = chain(nodes, ["n", 3], ints(a=[0, 1, 2, 0], b=[1, 0, 0, 3]) | {"zero": f32(0)})
    assert_merges(PADS, model, {"Pad": 1})


def test_fires_on_attributes() -> None:
    nodes = [
        node("Pad", "x", "t", pads=[0, 1, 0, 2], value=2.0),
        node("Pad", "t", "y", pads=[1, 0, 1, 0], value=2.0),
    ]
    assert_merges(PADS, chain(nodes, ["n", 3], opset=10), {"Pad": 1})


def test_fires_on_axes() -> None:
    nodes = [node("Pad", "x a c axes", "t"), node("Pad", "t b c", "y")]
    weights = ints(a=[1, 2], b=[1, 0, 0, 3], axes=[-1]) | {"c": f32(1)}
    assert_merges(PADS, chain(nodes, ["n", 3], weights, opset=18), {"Pad": 1})


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (node("Pad", "x a", "t", mode="edge"), PAIR[1], "it pads with no constant"),
        (node("Pad", "x a d", "t"), PAIR[1], "it pads with another value"),
        (node("Pad", "x a", "t"), PAIR[1], "it pads with another value"),
        (node("Pad", "x e c", "t"), PAIR[1], "it crops"),
    ],
)
def test_keeps(first: onnx.NodeProto, second: onnx.NodeProto, reason: str) -> None:
    weights = ints(a=[0, 1, 2, 0], b=[1, 0, 0, 3], e=[0, -1, 0, 0]) | {"c": f32(0.5), "d": f32(1)}
    used = {name: weights[name] for name in weights if name in {*first.input, *second.input}}
    assert_stays(PADS, chain([first, second], ["n", 3], used), reason)


def test_keeps_what_others_use() -> None:
    weights = ints(a=[0, 1, 2, 0], b=[1, 0, 0, 3]) | {"c": f32(0.5)}
    assert_stays(
        PADS, chain(PAIR, ["n", 3], weights, outputs=["out", "t"]), "the result of Pad is a graph output"
    )


def cropped(
    dims: Dims, pads: Sequence[int], starts: Sequence[int], ends: Sequence[int], axes: Sequence[int]
) -> onnx.ModelProto:
    nodes = [node("Pad", "x pads c", "t"), node("Slice", "t starts ends axes", "y")]
    weights = ints(pads=pads, starts=starts, ends=ends, axes=axes) | {"c": f32(0.5)}
    return chain(nodes, dims, weights)


@pytest.mark.parametrize(
    ("pads", "starts", "ends", "axes"),
    [
        ([0, 0, 0, 1], [1], [BIG], [1]),
        ([0, 2, 0, 1], [1], [-1], [-1]),
        ([0, 0, 0, 3], [0, 2], [BIG, 6], [0, 1]),
        ([1, 0, 1, 0], [0], [2], [1]),
    ],
)
def test_crops(pads: Sequence[int], starts: Sequence[int], ends: Sequence[int], axes: Sequence[int]) -> None:
    assert_merges(CROP, cropped(["n", 5], pads, starts, ends, axes), {"Pad": 1})


@pytest.mark.parametrize(
    ("dims", "pads", "starts", "ends", "axes"),
    [
        pytest.param(["n", 5], [0, 0, 0, 1], [1], [BIG], [0], id="the size is unknown"),
        pytest.param([3, 5], [0, 6, 0, 0], [0], [6], [1], id="nothing of x is left"),
        pytest.param([3, 5], [0, -1, 0, 0], [1], [BIG], [1], id="the Pad crops"),
    ],
)
def test_keeps_a_crop(
    dims: Dims, pads: Sequence[int], starts: Sequence[int], ends: Sequence[int], axes: Sequence[int]
) -> None:
    assert_stays(CROP, cropped(dims, pads, starts, ends, axes), "the crop is not known to fit")


def test_keeps_a_crop_of_what_is_reflected() -> None:
    nodes = [node("Pad", "x pads", "t", mode="reflect"), node("Slice", "t one big one", "y")]
    model = chain(nodes, [3, 5], ints(pads=[0, 0, 0, 1], one=[1], big=[BIG]))
    assert_stays(CROP, model, "it pads with no constant")
