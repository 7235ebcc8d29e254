"""compute_on_images: rows that become images, what stays rows, and what they need to be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest

from fuseonnx.passes.compute_on_images import RULE
from tests.helpers import assert_same_answers, make_model, node, random_feeds
from tests.passes.folds import in_branches
from tests.passes.forms import assert_changes, assert_stays, rewrite_form

RNG = np.random.default_rng(0)
TOO_FEW = "too few operators would follow convolutions"
WEIGHTS = {
    "rows": np.array([-1, 8]),
    "w": RNG.normal(size=(8, 12)).astype(np.float32),
    "b": RNG.normal(size=12).astype(np.float32),
    "w2": RNG.normal(size=(12, 8)).astype(np.float32),
    "b2": RNG.normal(size=(1, 8)).astype(np.float32),
}
ENTER = [node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("Reshape", "t rows", "r")]
LAYERS = [node("Gemm", "r w b", "g"), node("HardSigmoid", "g", "a"), node("Gemm", "a w2 b2", "h")]
BLOCK = [*ENTER, *LAYERS, node("Add", "r h", "y")]
IMAGE = ("n", 8, 4, 6)


def model_of(
    nodes: Sequence[onnx.NodeProto] = BLOCK,
    dims: Sequence[int | str] = IMAGE,
    outputs: Sequence[str] = ("y",),
    weights: dict[str, np.ndarray] | None = None,
    **options: Any,
) -> onnx.ModelProto:
    """The nodes on an image x."""
    used = {name for each in nodes for name in each.input}
    known = WEIGHTS | (weights or {})
    return make_model(
        nodes, {"x": dims}, outputs, {name: known[name] for name in known if name in used}, **options
    )


@pytest.mark.parametrize("dims", [IMAGE, (1, 8, 4, 6), (2, 8, 3, 1)], ids=str)
def test_changes_layers_with_an_activation_and_a_sum(dims: Sequence[int | str]) -> None:
    after = assert_changes(model_of(dims=dims), RULE)
    assert after.ops == {"Conv": 2, "HardSigmoid": 1, "Add": 1, "Transpose": 1, "Reshape": 1}
    assert [each.name for each in after.model.graph.output] == ["y"]


@pytest.mark.parametrize(
    "activation",
    [
        node("Relu", "g", "a"),
        node("LeakyRelu", "g", "a", alpha=0.3),
        node("HardSigmoid", "g", "a", alpha=0.4, beta=0.1),
        node("Clip", "g  six", "a"),
        node("Tanh", "g", "a"),
    ],
    ids=lambda each: each.op_type,
)
def test_keeps_the_attributes_and_bounds_of_an_activation(activation: onnx.NodeProto) -> None:
    activation.input[:] = ["g", "", "six"] if activation.op_type == "Clip" else ["g"]
    nodes = [*ENTER, LAYERS[0], activation, LAYERS[2], BLOCK[-1]]
    assert_changes(model_of(nodes, weights={"six": np.array(0.6, np.float32)}), RULE)


@pytest.mark.parametrize(
    ("gemm", "weights"),
    [
        (node("Gemm", "r v b", "g", transB=1), {"v": WEIGHTS["w"].T.copy()}),
        (node("Gemm", "r w", "g"), {}),
    ],
    ids=["weights transposed", "no bias"],
)
def test_changes_any_plain_gemm(gemm: onnx.NodeProto, weights: dict[str, np.ndarray]) -> None:
    assert_changes(model_of([*ENTER, gemm, *BLOCK[3:]], weights=weights), RULE)


@pytest.mark.parametrize(
    ("gemm", "weights"),
    [
        (node("Gemm", "r w b", "g", alpha=0.5), {}),
        (node("Gemm", "r w b", "g", beta=2.0), {}),
        (node("Gemm", "r w s", "g"), {"s": np.float32(3)}),
        (node("Gemm", "r w s", "g"), {"s": RNG.normal(size=(24, 1)).astype(np.float32)}),
    ],
    ids=["alpha", "beta", "one number as bias", "one number a row"],
)
def test_keeps_out_of_other_gemms(gemm: onnx.NodeProto, weights: dict[str, np.ndarray]) -> None:
    model = model_of([*ENTER, gemm, *BLOCK[3:]], (1, *IMAGE[1:]), weights=weights)
    after = rewrite_form(model, RULE)
    assert after.fired == {}


def test_keeps_out_of_a_product_of_columns() -> None:
    gemm = node("Gemm", "r w b", "y", transA=1)
    nodes = [node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("Reshape", "t rows", "r"), gemm]
    weights = {"w": RNG.normal(size=(8, 12)).astype(np.float32)}
    assert_stays(model_of(nodes, (1, 8, 4, 2), weights=weights), RULE, "")


def test_keeps_out_where_channels_are_no_blocks() -> None:
    weights = {"w": np.ones((8, 10), np.float32), "b": WEIGHTS["b"][:10], "w2": np.ones((10, 8), np.float32)}
    assert_stays(model_of(weights=weights), RULE, "")


def test_keeps_out_of_weights_that_others_use() -> None:
    nodes = [*ENTER, LAYERS[0], node("Relu", "g", "z"), node("ReduceSum", "w", "sum", keepdims=0)]
    assert_stays(model_of(nodes, outputs=["z", "sum"]), RULE, "")


def test_keeps_out_of_doubles() -> None:
    weights = {name: WEIGHTS[name].astype(np.float64) for name in ("w", "b", "w2", "b2")}
    assert_stays(model_of(weights=weights, dtype=onnx.TensorProto.DOUBLE), RULE, "")


@pytest.mark.parametrize("dims", [("n", 8, "h", 6), ("n", 8, "h", "w")], ids=str)
def test_keeps_out_of_images_of_unknown_size(dims: Sequence[int | str]) -> None:
    assert_stays(model_of(dims=dims), RULE, "")


def test_keeps_out_of_rows_that_are_no_pixels() -> None:
    nodes = [node("Transpose", "x", "t", perm=[0, 3, 2, 1]), *BLOCK[1:]]
    assert_stays(model_of(nodes), RULE, "")
    nodes = [ENTER[0], node("Reshape", "t pairs", "r"), *LAYERS, BLOCK[-1]]
    assert_stays(model_of(nodes, ("n", 4, 4, 6), weights={"pairs": np.array([-1, 8])}), RULE, "")


def test_keeps_out_where_little_follows_convolutions() -> None:
    assert_stays(model_of([*ENTER, *LAYERS], outputs=["h"]), RULE, TOO_FEW)
    gelu = [node("Erf", "g", "e"), node("Gemm", "e w2 b2", "h")]
    assert_stays(model_of([*ENTER, LAYERS[0], *gelu, BLOCK[-1]]), RULE, TOO_FEW)


def test_leaves_other_users_their_rows() -> None:
    more = [node("Gemm", "y w3 b", "g3"), node("Relu", "g3", "a3"), node("Gemm", "a3 w4 b2", "h3")]
    nodes = [*BLOCK, *more, node("Add", "h3 y", "y3"), node("Softmax", "a", "s")]
    weights = {"w3": WEIGHTS["w"] / 2, "w4": WEIGHTS["w2"] / 2}
    after = assert_changes(model_of(nodes, outputs=["y3", "s"], weights=weights), RULE)
    assert after.ops["Conv"] == 4
    assert (after.ops["Transpose"], after.ops["Softmax"]) == (2, 1)


def test_adds_nothing_but_images_of_the_same_positions() -> None:
    nodes = [*ENTER, *LAYERS, node("Add", "h row", "k"), node("Add", "r k", "y")]
    model = model_of(nodes, weights={"row": RNG.normal(size=8).astype(np.float32)})
    assert_stays(model, RULE, TOO_FEW)


def attention(*, subsamples: bool = False) -> onnx.ModelProto:
    """A block, then one of LeViT's attentions over its 24 positions, in 2 heads of 4 and 8."""
    rng = np.random.default_rng(1)
    weights = {
        "wqkv": rng.normal(size=(8, 32)).astype(np.float32),
        "bqkv": rng.normal(size=32).astype(np.float32),
        "wq": rng.normal(size=(8, 8)).astype(np.float32),
        "wo": rng.normal(size=(16, 8)).astype(np.float32),
        "heads": np.array([-1, 24, 2, 16]),
        "sizes": np.array([4, 4, 8]),
        "few": np.array([-1, 6, 2, 4]),
        "back": np.array([-1, 16]),
        "grid": np.array([-1, 4, 6, 8]),
        "zeros": np.zeros(2, np.int64),
        "ends": np.full(2, 9),
        "axes": np.array([1, -2]),
        "steps": np.full(2, 2),
    }
    fewer = [
        node("Reshape", "y grid", "image"),
        node("Slice", "image zeros ends axes steps", "every_other"),
        node("Reshape", "every_other rows", "r2"),
        node("Gemm", "r2 wq", "q2"),
        node("Reshape", "q2 few", "queries"),
    ]
    nodes = [
        *BLOCK,
        node("Gemm", "y wqkv bqkv", "qkv"),
        node("Reshape", "qkv heads", "all"),
        node("Split", "all sizes", "q0 k0 v0", axis=3),
        *(fewer if subsamples else []),
        node("Transpose", "queries" if subsamples else "q0", "q", perm=[0, 2, 1, 3]),
        node("Transpose", "k0", "k", perm=[0, 2, 3, 1]),
        node("Transpose", "v0", "v", perm=[0, 2, 1, 3]),
        node("MatMul", "q k", "scores"),
        node("Softmax", "scores", "p", axis=-1),
        node("MatMul", "p v", "o0"),
        node("Transpose", "o0", "o1", perm=[0, 2, 1, 3]),
        node("Reshape", "o1 back", "o"),
        node("HardSwish", "o", "act"),
        node("Gemm", "act wo b2", "out"),
        *([] if subsamples else [node("Add", "out y", "z")]),
    ]
    return model_of(nodes, outputs=["out" if subsamples else "z"], weights=weights)


@pytest.mark.parametrize("batch", [1, 3])
def test_changes_attention(batch: int) -> None:
    model = attention()
    after = assert_changes(model, RULE, feeds=random_feeds(model, n=batch))
    assert (after.ops["Conv"], after.ops.get("Gemm", 0)) == (4, 0)
    perms = [list(each.attribute[0].ints) for each in after.model.graph.node if each.op_type == "Transpose"]
    assert perms == [[0, 1, 3, 2]] * 3 + [[0, 2, 3, 1]]


@pytest.mark.parametrize("batch", [1, 3])
def test_changes_attention_of_fewer_queries(batch: int) -> None:
    model = attention(subsamples=True)
    after = assert_changes(model, RULE, feeds=random_feeds(model, n=batch))
    assert (after.ops["Conv"], after.ops["Slice"], after.ops.get("Gemm", 0)) == (5, 1, 0)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_slices_images_with_the_index_type_of_the_rows(dtype: type[np.integer[Any]]) -> None:
    nodes = [
        *BLOCK,
        node("Reshape", "y grid", "image"),
        node("Slice", "image zeros ends axes steps", "few"),
        node("Reshape", "few rows", "r2"),
        node("Gemm", "r2 w3", "g2"),
        node("Relu", "g2", "z"),
    ]
    numbers = {"zeros": [0, 0], "ends": [9, 9], "axes": [1, -2], "steps": [2, 2]}
    weights = {name: np.array(values, dtype) for name, values in numbers.items()}
    weights |= {"grid": np.array([-1, 4, 6, 8]), "w3": WEIGHTS["w"] / 2}
    after = assert_changes(model_of(nodes, outputs=["z"], weights=weights), RULE)
    assert (after.ops["Conv"], after.ops["Slice"]) == (3, 1)


def test_results_that_are_one_image_stay_two() -> None:
    nodes = [*BLOCK, node("Relu", "y", "z"), node("Reshape", "z grid", "p"), node("Reshape", "z same", "q")]
    weights = {"grid": np.array([2, 4, 6, 8]), "same": np.array([-1, 4, 6, 8])}
    after = assert_changes(model_of(nodes, (2, 8, 4, 6), outputs=["p", "q"], weights=weights), RULE)
    assert [each.name for each in after.model.graph.output] == ["p", "q"]


def test_changes_both_branches_of_an_if() -> None:
    model = in_branches(model_of())
    after = rewrite_form(model, RULE)
    assert after.fired == {RULE.name: 2}
    for flag in (True, False):
        assert_same_answers(model, after.model, {**random_feeds(model), "flag": np.array(flag)})
