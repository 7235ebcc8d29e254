"""floor_hidden_scores: what fires, what Softmax then sees, and each thing that keeps it out once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto

from fuseonnx.passes.floor_hidden_scores import RULE
from tests.helpers import assert_same_answers, f32, make_model, node, random_feeds, run_reference
from tests.passes.folds import in_branches
from tests.passes.forms import assert_changes, assert_stays, rewrite_form

N = 6
LOWEST = float(np.finfo(np.float32).min)
TRIANGLE = np.tri(N, dtype=bool)
ENDED = [node("Softmax", "s", "p", axis=-1), node("MatMul", "p v", "y")]
POSITIONS = [
    node("Shape", "x", "n", start=-1),
    node("Squeeze", "n", "size"),
    node("Range", "start size step", "keys"),
    node("Unsqueeze", "keys last", "queries"),
    node("LessOrEqual", "keys queries", "causal"),
]
RANGE: Mapping[str, npt.ArrayLike] = {"start": np.array(0), "step": np.array(1), "last": np.array([1])}


def scores(
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, npt.ArrayLike],
    *,
    opset: int = 17,
    dims: Sequence[int | str] = ("b", 2, N, N),
    outputs: Sequence[str] = ("y",),
    dtype: int = TensorProto.FLOAT,
    overridable: Sequence[str] = (),
) -> onnx.ModelProto:
    """Scores x, and v [b, 2, N, 3]; the nodes end with y."""
    used = {name for each in nodes for name in each.input}
    inputs = {name: shape for name, shape in {"x": dims, "v": ("b", 2, N, 3)}.items() if name in used}
    arrays = {name: np.asarray(array) for name, array in weights.items()}
    return make_model(nodes, inputs, outputs, arrays, opset=opset, dtype=dtype, overridable=overridable)


def masked(mask: npt.ArrayLike, **options: object) -> onnx.ModelProto:
    """Scores with a constant mask added."""
    return scores([node("Add", "x mask", "s"), *ENDED], {"mask": f32(mask)}, **options)  # type: ignore[arg-type]


def chosen(visible: np.ndarray, first: float, second: float) -> onnx.ModelProto:
    """Scores with Where(visible, first, second) added."""
    nodes = [node("Where", "visible a b", "mask"), node("Add", "x mask", "s"), *ENDED]
    return scores(nodes, {"visible": visible, "a": f32(first), "b": f32(second)})


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
@pytest.mark.parametrize("hidden", [-100, -1e4, LOWEST, -np.inf])
def test_fires(opset: int, hidden: float) -> None:
    model = masked(np.where(TRIANGLE, 0, hidden), opset=opset)
    after = assert_changes(model, RULE)
    assert after.ops == {"Add": 1, "ReduceMax": 1, "Sub": 1, "Clip": 1, "Softmax": 1, "MatMul": 1}


@pytest.mark.parametrize(
    "model",
    [
        chosen(TRIANGLE, 0, LOWEST),
        chosen(~TRIANGLE, -100, 0),
        scores([node("Where", "visible x low", "s"), *ENDED], {"visible": TRIANGLE, "low": f32(-1e9)}),
        scores([node("Where", "visible low x", "s"), *ENDED], {"visible": ~TRIANGLE, "low": f32(-1e9)}),
        scores(
            [*POSITIONS, node("Where", "causal a b", "mask"), node("Add", "mask x", "s"), *ENDED],
            {**RANGE, "a": f32(0), "b": f32(LOWEST)},
        ),
        scores(
            [
                node("Add", "bias m", "both"),
                node("Unsqueeze", "both zero", "mask"),
                node("Add", "x mask", "s"),
                *ENDED,
            ],
            {"bias": f32(np.ones((2, 1, N))), "m": f32(np.where(TRIANGLE, 0, -100)), "zero": np.array([0])},
        ),
    ],
)
def test_fires_for_masks_that_are_made(model: onnx.ModelProto) -> None:
    assert_changes(model, RULE)


def test_fires_where_positions_and_a_fed_mask_hide() -> None:
    nodes = [
        *POSITIONS,
        node("Cast", "x", "fed", to=TensorProto.BOOL),
        node("And", "fed causal", "visible"),
        node("Where", "visible a b", "mask"),
        node("Add", "mask x", "s"),
        *ENDED,
    ]
    model = scores(nodes, {**RANGE, "a": f32(0), "b": f32(-np.inf)})
    feeds = random_feeds(model)
    feeds["x"][..., 2:] *= np.random.default_rng(1).random((N, N - 2)) < 0.5
    assert_changes(model, RULE, feeds=feeds)


def test_leaves_no_denormal_number() -> None:
    model = masked(np.where(TRIANGLE, 0, -100), outputs=["p", "y"])
    feeds = random_feeds(model)
    before, after = (run_reference(each, feeds)["p"] for each in (model, rewrite_form(model, RULE).model))
    tiny = np.finfo(np.float32).tiny
    assert ((before < tiny) == ~TRIANGLE).all()
    assert (after > tiny).all()
    assert np.abs(after - before).max() < N * np.exp(-72.0)


@pytest.mark.parametrize("odd", [[LOWEST, -np.inf], [LOWEST], [-np.inf], [np.inf], [np.nan], [1e10, 1.1e10]])
def test_rows_without_a_usual_score_stay_what_they_are(odd: Sequence[float]) -> None:
    model = masked(np.where(TRIANGLE, 0, LOWEST))
    feeds = random_feeds(model)
    feeds["x"][0, 0, 1:4, : len(odd)] = odd
    feeds["x"][0, 0, 1:4, len(odd) :] = odd[-1]
    assert_same_answers(model, assert_changes(model, RULE).model, feeds)


def test_far_scores_keep_their_differences() -> None:
    model = masked(np.where(TRIANGLE, 0, -100))
    feeds = random_feeds(model)
    feeds["x"] *= 40
    assert_same_answers(model, assert_changes(model, RULE).model, feeds)


def test_fires_in_branches() -> None:
    nodes = [node("Add", "x mask", "s"), node("Softmax", "s", "y", axis=-1)]
    model = in_branches(scores(nodes, {"mask": f32(np.where(TRIANGLE, 0, -100))}))
    for flag in (True, False):
        assert_changes(model, RULE, times=2, feeds={**random_feeds(model), "flag": np.array(flag)})


def test_masked_scores_may_have_other_users() -> None:
    assert_changes(masked(np.where(TRIANGLE, 0, -100), outputs=["s", "y"]), RULE)


@pytest.mark.parametrize(
    "model",
    [
        masked(np.where(TRIANGLE, 0, -10)),
        masked(np.full((N, N), -100)),
        masked(np.zeros((N, N))),
        masked(np.where(TRIANGLE, 0, -100), overridable=["mask"]),
        chosen(TRIANGLE, 0, -10),
        chosen(np.ones((N, N), bool), 0, LOWEST),
        scores([node("Softmax", "x", "p", axis=-1), ENDED[1]], {}),
        scores([node("Mul", "x mask", "s"), *ENDED], {"mask": f32(np.where(TRIANGLE, 0, -100))}),
    ],
)
def test_keeps_out_where_nothing_may_be_hidden(model: onnx.ModelProto) -> None:
    assert_stays(model, RULE, "")


def test_keeps_out_of_masks_that_are_fed() -> None:
    nodes = [
        node("Cast", "x", "fed", to=TensorProto.BOOL),
        node("Where", "fed a b", "mask"),
        node("Add", "mask x", "s"),
        *ENDED,
    ]
    assert_stays(scores(nodes, {"a": f32(0), "b": f32(-np.inf)}), RULE, "")
    compared = [
        node("LessOrEqual", "x zero", "visible"),
        node("Where", "visible x low", "s"),
        *ENDED,
    ]
    assert_stays(scores(compared, {"zero": f32(0), "low": f32(-np.inf)}), RULE, "")


def test_keeps_out_of_other_axes() -> None:
    nodes = [node("Add", "x mask", "s"), node("Softmax", "s", "y", axis=2)]
    mask = {"mask": f32(np.where(TRIANGLE, 0, -100))}
    assert_stays(scores(nodes, mask), RULE, "Softmax is not along the last axis")


def test_keeps_out_of_a_single_query() -> None:
    nodes = [node("Add", "x mask", "s"), node("Softmax", "s", "y", axis=-1)]
    mask = {"mask": f32(np.where(TRIANGLE[2:3], 0, -100))}
    assert_stays(scores(nodes, mask, dims=("b", 2, 1, N)), RULE, "there is one query")


def test_keeps_out_of_other_types_and_opsets() -> None:
    mask, reason = np.where(TRIANGLE, 0, -100), "it is for float32, since opset 13"
    assert_stays(masked(mask, opset=11), RULE, reason)
    nodes = [node("Add", "x mask", "s"), node("Softmax", "s", "y", axis=-1)]
    model = scores(nodes, {"mask": mask.astype(np.float64)}, dtype=TensorProto.DOUBLE)
    assert_stays(model, RULE, reason)
