"""fuse_depth_to_space: the three forms, then what it keeps out of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.helpers import node
from tests.passes.chains import Dims, assert_merges, assert_stays, chain, ints

RULE = "fuse_depth_to_space"


class Form(NamedTuple):
    dims: Dims
    split: Sequence[int]
    perm: Sequence[int]
    merged: Sequence[int]

    def model(
        self, opset: int = 17, dtype: int = TensorProto.FLOAT, outputs: Sequence[str] = ("out",)
    ) -> onnx.ModelProto:
        nodes = [
            node("Reshape", "x split", "a"),
            node("Transpose", "a", "b", perm=self.perm),
            node("Reshape", "b merged", "y"),
        ]
        weights = ints(split=self.split, merged=self.merged)
        return chain(nodes, self.dims, weights, opset=opset, dtype=dtype, outputs=outputs)


CRD = Form(["n", 12, 5, 7], [-1, 3, 2, 2, 5, 7], [0, 1, 4, 2, 5, 3], [-1, 3, 10, 14])
DCR = Form(["n", 18, 5, 7], [-1, 3, 3, 2, 5, 7], [0, 3, 4, 1, 5, 2], [-1, 2, 15, 21])
BACK = Form(["n", 3, 10, 14], [-1, 3, 5, 2, 7, 2], [0, 3, 5, 1, 2, 4], [-1, 12, 5, 7])
FORMS = {"DepthToSpace by CRD": CRD, "DepthToSpace by DCR": DCR, "SpaceToDepth": BACK}


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("name", FORMS)
def test_fuses(name: str, opset: int) -> None:
    assert_merges(RULE, FORMS[name].model(opset), {name.split(maxsplit=1)[0]: 1})


@pytest.mark.parametrize("name", ["DepthToSpace by DCR", "SpaceToDepth"])
def test_fuses_what_needs_no_mode_before_opset_11(name: str) -> None:
    assert_merges(RULE, FORMS[name].model(7), {name.split(maxsplit=1)[0]: 1})


@pytest.mark.parametrize("name", FORMS)
def test_fuses_double_precision(name: str) -> None:
    assert_merges(RULE, FORMS[name].model(13, TensorProto.DOUBLE), {name.split(maxsplit=1)[0]: 1})


def test_fuses_one_channel() -> None:
    form = CRD._replace(dims=["n", 4, 5, 7], split=[-1, 1, 2, 2, 5, 7], merged=[-1, 1, 10, 14])
    assert_merges(RULE, form.model(), {"DepthToSpace": 1})


def test_keeps_out_before_opset_11() -> None:
    assert_stays(RULE, CRD.model(9), "DepthToSpace has its mode from opset 11 on")


@pytest.mark.parametrize("dtype", [TensorProto.INT32, TensorProto.FLOAT16])
def test_keeps_out_of_dtypes_without_a_kernel(dtype: int) -> None:
    assert_stays(RULE, CRD.model(dtype=dtype), "onnxruntime has no DepthToSpace of this dtype")


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        pytest.param(BACK._replace(perm=[0, 1, 3, 5, 2, 4]), "", id="channels first"),
        pytest.param(
            CRD._replace(dims=["n", 18, 5, 7], split=[-1, 3, 2, 3, 5, 7], merged=[-1, 3, 10, 21]),
            "the blocks are not known to be square",
            id="not square",
        ),
        pytest.param(
            CRD._replace(dims=["n", 12, 7, 5]), "the dims are not known to be merged so", id="other pixels"
        ),
        pytest.param(
            CRD._replace(merged=[-1, 3, 14, 10]),
            "the dims are not known to be merged so",
            id="another result",
        ),
        pytest.param(CRD._replace(merged=[-1, 3, 140]), "the dims are not known to be merged so", id="rank"),
    ],
)
def test_keeps(form: Form, reason: str) -> None:
    assert_stays(RULE, form.model(), reason)


@pytest.mark.parametrize(("inner", "made"), [("a", "Reshape"), ("b", "Transpose")])
def test_leaves_inner_values_that_are_outputs(inner: str, made: str) -> None:
    model = CRD.model(outputs=["out", inner])
    assert_stays(RULE, model, f"the result of {made} is a graph output")


def test_knows_symbolic_pixels() -> None:
    """The target is computed from the shape of x, as einops exports it."""
    nodes = [
        node("Shape", "x", "n", start=0, end=1),
        node("Shape", "x", "h", start=2, end=3),
        node("Shape", "x", "w", start=3, end=4),
        node("Mul", "h two", "hh"),
        node("Mul", "w two", "ww"),
        node("Concat", "n crr h w", "split", axis=0),
        node("Concat", "n c hh ww", "merged", axis=0),
        node("Reshape", "x split", "a"),
        node("Transpose", "a", "b", perm=CRD.perm),
        node("Reshape", "b merged", "y"),
    ]
    model = chain(nodes, ["n", 12, "h", "w"], ints(two=[2], crr=[3, 2, 2], c=[3]))
    feeds = {"in": np.random.default_rng(0).normal(size=(2, 12, 3, 4)).astype(np.float32)}
    assert_merges(RULE, model, {"DepthToSpace": 1}, feeds=feeds)
