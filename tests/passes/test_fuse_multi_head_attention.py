"""fuse_multi_head_attention: what fires, operands that are not finite, and each precondition broken once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from fuseonnx.passes.fuse_multi_head_attention import RULE
from tests.helpers import assert_same_answers, f32, make_model, node, random_feeds, run_reference
from tests.passes.folds import in_branches
from tests.passes.forms import assert_changes, assert_stays, rewrite_form

SWAP, COLUMNS = [0, 2, 1, 3], [0, 2, 3, 1]
TURNED = [
    node("Transpose", "q", "qt", perm=SWAP),
    node("Transpose", "k", "kt", perm=COLUMNS),
    node("Transpose", "v", "vt", perm=SWAP),
]
PRODUCT = node("MatMul", "qt kt", "products")
SOFTMAX = node("Softmax", "scores", "p", axis=-1)
ENDED = [node("MatMul", "p vt", "o"), node("Transpose", "o", "y", perm=SWAP)]
SCALED = [*TURNED, PRODUCT, node("Mul", "products scale", "scores"), SOFTMAX, *ENDED]
PLAIN = [*TURNED, node("MatMul", "qt kt", "scores"), SOFTMAX, *ENDED]
SHAPES: Mapping[str, Sequence[int | str]] = {
    "q": ("b", 40, 4, 8),
    "k": ("b", 300, 4, 8),
    "v": ("b", 300, 4, 6),
}

TURNS = "the axes are turned in another way"
AXIS = "Softmax is not along the keys"
SCALE = "the scale is not one positive number"


def attention(
    nodes: Sequence[onnx.NodeProto] = SCALED,
    *,
    scale: npt.ArrayLike = 0.35,
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
    dtype: int = TensorProto.FLOAT,
    **shapes: Sequence[int | str],
) -> onnx.ModelProto:
    """Attention of 4 heads over 300 keys."""
    used = {name for each in nodes for name in each.input}
    weights = (
        {"scale": np.asarray(scale, onnx.helper.tensor_dtype_to_np_dtype(dtype))} if "scale" in used else {}
    )
    inputs = {**SHAPES, **shapes}
    return make_model(nodes, inputs, outputs, weights, opset=opset, dtype=dtype)


def with_turn(name: str, perm: Sequence[int]) -> list[onnx.NodeProto]:
    """The nodes with another perm where `name` is turned."""
    turn = {"q": "qt", "k": "kt", "v": "vt"}[name]
    return [node("Transpose", name, turn, perm=perm) if each.output[0] == turn else each for each in SCALED]


@pytest.mark.parametrize(
    "nodes",
    [
        SCALED,
        PLAIN,
        [*TURNED, PRODUCT, node("Mul", "scale products", "scores"), SOFTMAX, *ENDED],
        [*TURNED, PRODUCT, node("Div", "products scale", "scores"), SOFTMAX, *ENDED],
        [*PLAIN[:4], node("Softmax", "scores", "p", axis=3), *ENDED],
    ],
)
@pytest.mark.parametrize("opset", [13, 17, 22])
def test_fires(nodes: Sequence[onnx.NodeProto], opset: int) -> None:
    after = assert_changes(attention(nodes, opset=opset), RULE)
    assert after.ops == {"Reshape": 4, "MultiHeadAttention": 1}
    versions = {(each.domain, each.version) for each in after.model.opset_import}
    assert versions == {("", opset), ("com.microsoft", 1)}


@pytest.mark.parametrize("size", [0, 1, 5])
def test_any_batch(size: int) -> None:
    model = attention()
    assert_changes(model, RULE, feeds=random_feeds(model, b=size))


def test_fires_for_unknown_positions() -> None:
    model = attention(q=("b", "s", 4, 8), k=("b", "t", 4, 8), v=("b", "t", 4, 6))
    for keys in (1, 7, 300):
        assert_changes(model, RULE, feeds=random_feeds(model, s=5, t=keys))


def test_stands_at_the_default_level() -> None:
    model = attention()
    feeds, after = random_feeds(model), rewrite_form(model, RULE).model
    session = onnxruntime.InferenceSession(after.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = run_reference(model, feeds)["y"]
    np.testing.assert_allclose(session.run(["y"], dict(feeds))[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e30])
def test_numbers_that_are_not_usual(name: str, odd: float) -> None:
    model = attention()
    feeds = random_feeds(model)
    feeds[name][0, 5, 1, 3] = odd
    assert_same_answers(model, assert_changes(model, RULE, feeds=feeds).model, feeds)


def test_large_scores() -> None:
    model = attention()
    feeds = random_feeds(model)
    feeds["q"] *= 100
    assert_changes(model, RULE, feeds=feeds)


def test_one_after_another() -> None:
    second = [node("Transpose", "y", "qt2", perm=SWAP), node("MatMul", "qt2 kt", "scores2")]
    second += [node("Softmax", "scores2", "p2", axis=-1), node("MatMul", "p2 vt", "o2")]
    nodes = [*SCALED, *second, node("Transpose", "o2", "z", perm=SWAP)]
    assert_changes(attention(nodes, outputs=["z"], v=("b", 300, 4, 8)), RULE, times=2)


def test_fires_in_branches() -> None:
    turns = {"qt": SWAP, "kt": COLUMNS, "vt": SWAP}
    nodes = [node("Transpose", "x", turned, perm=perm) for turned, perm in turns.items()]
    nodes += [node("MatMul", "qt kt", "scores"), SOFTMAX, *ENDED]
    model = in_branches(make_model(nodes, {"x": ("b", 300, 4, 8)}, ["y"], {"unused": f32(1)}))
    for flag in (True, False):
        assert_changes(model, RULE, times=2, feeds={**random_feeds(model), "flag": np.array(flag)})


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (attention(dtype=TensorProto.DOUBLE), "it is for float32"),
        (attention(with_turn("q", (1, 2, 0, 3)), q=(40, "b", 4, 8)), TURNS),
        (attention(with_turn("k", (0, 1, 3, 2)), k=("b", 4, 300, 8)), TURNS),
        (attention(with_turn("v", (0, 1, 2, 3)), v=("b", 4, 300, 6)), TURNS),
        (
            attention([*SCALED[:-1], node("Transpose", "o", "y", perm=[0, 1, 3, 2])]),
            "the axes are turned in another way",
        ),
        (
            attention([*PLAIN[:4], node("Softmax", "scores", "p", axis=2), *ENDED]),
            "Softmax is not along the keys",
        ),
        (attention(scale=np.full((4, 1, 1), 0.5)), SCALE),
        (attention(scale=0), SCALE),
        (attention(scale=-0.5), SCALE),
        (attention(q=(1, 40, 4, 8), k=("b", 300, 4, 8)), "the operands are broadcast"),
        (attention(k=("b", 300, 1, 8)), "the operands are broadcast"),
        (attention(v=("b", 300, 1, 6)), "the operands are broadcast"),
        (attention(q=("b", 40, "h", 8)), "number and size of the heads are unknown"),
        (attention(k=("b", 30, 4, 8), v=("b", 30, 4, 6)), "there are few keys"),
        (attention(outputs=["p", "y"]), "the result of Softmax is a graph output"),
        (attention(outputs=["scores", "y"]), "the result of Mul is a graph output"),
        (attention(outputs=["o", "y"]), "the result of MatMul is a graph output"),
        (attention([*TURNED, PRODUCT, node("Add", "products scale", "scores"), SOFTMAX, *ENDED]), ""),
    ],
)
def test_keeps_out(model: onnx.ModelProto, reason: str) -> None:
    assert_stays(model, RULE, reason)


def test_turned_operands_may_have_other_users() -> None:
    after = assert_changes(attention(outputs=["y", "kt"]), RULE)
    assert after.ops["Transpose"] == 1
