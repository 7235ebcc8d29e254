"""fuse_pooled_conv: what becomes a Gemm, then each precondition broken once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest

from tests.helpers import f32, node
from tests.passes.chains import assert_merges, assert_stays, chain, ints

RULE = "fuse_pooled_conv"
C, M = 5, 3


def classifier(
    opset: int = 17,
    *,
    reduction: str = "ReduceMean",
    axes: tuple[int, ...] = (2, 3),
    last: onnx.NodeProto | None = None,
    bias: bool = True,
    kernel: int = 1,
    dims: tuple[int | str, ...] = ("n", C, 4, 6),
    conv: Mapping[str, Any] | None = None,
    keepdims: int = 1,
    more: tuple[onnx.NodeProto, ...] = (),
    outputs: tuple[str, ...] = ("out",),
    overridable: tuple[str, ...] = (),
) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    group = (conv or {}).get("group", 1)
    weights = {
        "w": f32(rng.normal(size=(M, C // group, *[kernel] * (len(dims) - 2)))),
        **({"b": f32(rng.normal(size=M))} if bias else {}),
        **ints(axes=axes, target=[-1, M], spatial=[*range(2, len(dims))], three=[0, M, 1]),
    }
    attributes = {"keepdims": keepdims}
    as_input = opset >= (13 if reduction == "ReduceSum" else 18)
    reduce = (
        node(reduction, "x axes", "r", **attributes)
        if as_input
        else node(reduction, "x", "r", axes=axes, **attributes)
    )
    nodes = [
        reduce,
        node("Conv", "r w b" if bias else "r w", "c", **(conv or {})),
        last or node("Reshape", "c target", "y"),
        *more,
    ]
    return chain(nodes, dims, weights, opset=opset, outputs=outputs, overridable=overridable)


@pytest.mark.parametrize("reduction", ["ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum"])
@pytest.mark.parametrize("opset", [11, 13, 18])
def test_fuses(reduction: str, opset: int) -> None:
    assert_merges(RULE, classifier(opset, reduction=reduction), {reduction: 1, "Gemm": 1})


@pytest.mark.parametrize("last", [node("Flatten", "c", "y"), node("Squeeze", "c spatial", "y")])
def test_fuses_before_any_way_to_a_matrix(last: onnx.NodeProto) -> None:
    assert_merges(RULE, classifier(last=last), {"ReduceMean": 1, "Gemm": 1})


def test_fuses_without_a_bias() -> None:
    assert_merges(RULE, classifier(bias=False), {"ReduceMean": 1, "Gemm": 1})


def test_fuses_axes_counted_from_behind() -> None:
    assert_merges(RULE, classifier(axes=(-1, -2)), {"ReduceMean": 1, "Gemm": 1})


def test_fuses_one_spatial_axis() -> None:
    model = classifier(axes=(2,), dims=("n", C, 7))
    assert_merges(RULE, model, {"ReduceMean": 1, "Gemm": 1})


def test_fuses_strides() -> None:
    assert_merges(RULE, classifier(conv={"strides": [2, 2]}), {"ReduceMean": 1, "Gemm": 1})


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        pytest.param(classifier(9), "Gemm needs a bias before opset 11", id="opset"),
        pytest.param(
            classifier(axes=(3,), dims=("n", C, 1, 6)), "it is not known to be one pixel", id="axes"
        ),
        pytest.param(classifier(conv={"pads": [1, 0, 0, 0]}), "it is no product of matrices", id="pads"),
        pytest.param(
            classifier(kernel=3, conv={"auto_pad": "SAME_UPPER"}), "it is no product of matrices", id="kernel"
        ),
        pytest.param(
            classifier(last=node("Reshape", "c three", "y")),
            "the result is not known to be a matrix of as many columns",
            id="rank",
        ),
        pytest.param(
            classifier(last=node("Flatten", "c", "y", axis=0)),
            "the result is not known to be a matrix of as many columns",
            id="columns",
        ),
    ],
)
def test_keeps(model: onnx.ModelProto, reason: str) -> None:
    assert_stays(RULE, model, reason)


def test_keeps_weights_that_others_use() -> None:
    model = classifier(more=(node("Conv", "x w", "z"),), outputs=("out", "z"))
    assert_stays(RULE, model, "others use the weights")


def test_keeps_weights_that_may_change() -> None:
    assert_stays(RULE, classifier(overridable=("w",)), "")


@pytest.mark.parametrize("inner", ["r", "c"])
def test_keeps_inner_values_that_others_use(inner: str) -> None:
    model = classifier(more=(node("Neg", inner, "z"),), outputs=("out", "z"))
    assert_stays(RULE, model, f"the result of {'ReduceMean' if inner == 'r' else 'Conv'} has other users")
