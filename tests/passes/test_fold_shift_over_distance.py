"""fold_shift_over_distance: what it keeps out of and why, then what fires, up and down."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.helpers import assert_same_answers, batch_norm_weights, f32, node, rewrite
from tests.passes.distance import assert_folds, assert_stays, chain, channels, weights

RULE = "fold_shift_over_distance"
CONV = weights(w=(8, 4, 3, 3), b=(8,))
Nodes = Sequence[onnx.NodeProto]
Constants = dict[str, np.ndarray]
SHAPE = np.array([0, 8, -1])


def after_conv(
    middle: Nodes, shift: np.ndarray, more: Constants | None = None, op: str = "Add"
) -> onnx.ModelProto:
    """x ─ Conv ─ c ─ middle ─ m ─ + t ─ Tanh ─ y."""
    nodes = [node("Conv", "x w", "c", pads=[1] * 4), *middle, node(op, "m t", "z"), node("Tanh", "z", "y")]
    return chain(nodes, {"w": CONV["w"], "t": shift, **(more or {})})


UP: dict[str, tuple[Nodes, Constants, np.ndarray]] = {
    "MaxPool": ([node("MaxPool", "c", "m", kernel_shape=[3, 3], pads=[1] * 4)], {}, channels(8)),
    "AveragePool": ([node("AveragePool", "c", "m", kernel_shape=[3, 3])], {}, channels(8, rank=3, axis=0)),
    "GlobalAveragePool": ([node("GlobalAveragePool", "c", "m")], {}, channels(8)),
    "GlobalMaxPool": ([node("GlobalMaxPool", "c", "m")], {}, f32(-3)),
    "ReduceMean": ([node("ReduceMean", "c", "m", axes=[2, 3])], {}, channels(8)),
    "ReduceMax away": ([node("ReduceMax", "c", "m", axes=[2, 3], keepdims=0)], {}, f32(2)),
    "Transpose": ([node("Transpose", "c", "m", perm=[0, 2, 3, 1])], {}, channels(8, rank=1, axis=0)),
    "Reshape": ([node("Reshape", "c shape", "m")], {"shape": SHAPE}, channels(8, rank=3)),
    "a term": ([node("Exp", "x", "e"), node("Conv", "e v", "f"), node("Add", "f c", "m")],
               weights(v=(8, 4, 1, 1)), channels(8)),
    "a minuend": ([node("Sub", "c k", "m")], {"k": f32(2)}, channels(8)),
}  # fmt: skip


@pytest.mark.parametrize("name", UP)
@pytest.mark.parametrize("op", ["Add", "Sub"])
def test_goes_up(name: str, op: str) -> None:
    middle, more, shift = UP[name]
    model = after_conv(middle, shift, more, op)
    after = rewrite(model, RULE)
    assert after.fired[RULE] >= 1
    assert len(after.model.graph.node) == len(model.graph.node) - after.fired[RULE]
    assert_same_answers(model, after.model, rtol=2e-5)


def test_goes_through_concat_by_parts() -> None:
    nodes = [
        node("Conv", "x w b", "p"), node("Conv", "x v", "q"), node("Concat", "p q", "m", axis=1),
        node("Add", "m t", "y"),
    ]  # fmt: skip
    constants = {**CONV, **weights(v=(3, 4, 3, 3)), "t": channels(11)}
    assert_folds(chain(nodes, constants), RULE, "Add")


LAYERS: dict[str, tuple[Nodes, Constants, tuple[int | str, ...]]] = {  # x to c, of 8 channels on axis 1
    "Conv": ([node("Conv", "x w b", "c", group=2)], weights(w=(8, 2, 3, 3), b=(8,)), ("n", 4, 6, 6)),
    "ConvTranspose": ([node("ConvTranspose", "x w", "c", group=2)], weights(w=(4, 4, 3, 3)), ("n", 4, 6, 6)),
    "Gemm": ([node("Gemm", "x w b", "c", alpha=2.0)], weights(w=(5, 8), b=(8,)), ("n", 5)),
    "Gemm without bias": ([node("Gemm", "x w", "c")], weights(w=(5, 8)), ("n", 5)),
    "MatMul and Add": (
        [node("MatMul", "x w", "p"), node("Add", "b p", "c")], weights(w=(5, 8), b=(8,)), ("n", 5)),
    "BatchNormalization": (
        [node("BatchNormalization", "x gamma beta mean var", "c")], batch_norm_weights(8), ("n", 8, 6, 6)),
    "LayerNormalization": ([node("LayerNormalization", "x g h", "c")], weights(g=(8,), h=(8,)), ("n", 8)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("spread", [False, True])
def test_ends_in_a_bias_before(name: str, spread: bool) -> None:
    nodes, constants, dims = LAYERS[name]
    shift = channels(8, rank=len(dims)) if spread else f32(0.7)
    model = chain(
        [*nodes, node("Identity", "c", "m"), node("Add", "t m", "z"), node("Tanh", "z", "y")],
        {**constants, "t": shift},
        dims,
    )
    assert_folds(model, RULE)


@pytest.mark.parametrize(
    ("middle", "more"),
    [
        pytest.param([node("Relu", "c", "m")], {}, id="Relu"),
        pytest.param([node("AveragePool", "c", "m", kernel_shape=[3, 3], pads=[1] * 4)], {}, id="zeros"),
        pytest.param([node("ReduceSum", "c axes", "m")], {"axes": np.array([2])}, id="sum"),
        pytest.param([node("Mul", "c k", "m")], {"k": f32(2)}, id="a factor"),
        pytest.param([node("Pad", "c pads", "m")], {"pads": np.array([0, 0, 1, 0, 0, 0, 0, 0])}, id="Pad"),
        pytest.param([node("MaxPool", "c", "m", kernel_shape=[2, 2]), node("Exp", "c", "o")], {}, id="two"),
    ],
)  # fmt: skip
def test_stays_behind(middle: Nodes, more: Constants) -> None:
    assert_stays(after_conv(middle, f32(0.7), more), RULE)


def test_stays_behind_a_product_without_bias() -> None:
    nodes = [node("MatMul", "x w", "p"), node("Add", "p t", "y")]
    assert_stays(chain(nodes, {**weights(w=(4, 3)), "t": f32([1, 2, 3])}, ("n", 4)), RULE)


def before(
    middle: Nodes, shift: np.ndarray, more: Constants, dims: Sequence[int | str | None]
) -> onnx.ModelProto:
    """x ─ Exp ─ + t ─ m ─ middle ─ y."""
    nodes = [node("Exp", "x", "e"), node("Add", "t e", "m"), *middle]
    return chain(nodes, {**more, "t": shift}, dims)


DOWN: dict[str, tuple[Nodes, Constants, tuple[int | str, ...]]] = {  # m, of 4 channels on axis 1, to y
    "Conv": ([node("Conv", "m w b", "y", strides=[2, 1])], CONV, ("n", 4, 6, 6)),
    "Conv without bias": ([node("Conv", "m w", "y", auto_pad="VALID")], {"w": CONV["w"]}, ("n", 4, 6, 6)),
    "Conv in groups": ([node("Conv", "m w", "y", group=2)], weights(w=(6, 2, 3, 3)), ("n", 4, 6, 6)),
    "Gemm": ([node("Gemm", "m w b", "y", alpha=0.5)], weights(w=(4, 3), b=(3,)), ("n", 4)),
    "Gemm transposed": ([node("Gemm", "m w", "y", transB=1)], weights(w=(3, 4)), ("n", 4)),
    "MatMul and Add": (
        [node("MatMul", "m w", "p"), node("Add", "b p", "y")], weights(w=(4, 3), b=(3,)), ("n", 4)),
    "BatchNormalization": (
        [node("BatchNormalization", "m gamma beta mean var", "y")], batch_norm_weights(4), ("n", 4, 6, 6)),
    "MaxPool and Conv": (
        [node("MaxPool", "m", "p", kernel_shape=[2, 2]), node("Conv", "p w b", "y")], CONV, ("n", 4, 6, 6)),
    "Transpose and MatMul": (
        [node("Transpose", "m", "p", perm=[0, 2, 3, 1]), node("MatMul", "p w", "q"), node("Add", "q b", "y")],
        weights(w=(4, 3), b=(3,)), ("n", 4, 6, 6)),
    "two Convs": (
        [node("Conv", "m w b", "u"), node("Conv", "m w2", "v"), node("Concat", "u v", "y", axis=1)],
        {**CONV, "w2": CONV["w"][:2].copy()}, ("n", 4, 6, 6)),
}  # fmt: skip


@pytest.mark.parametrize("name", DOWN)
@pytest.mark.parametrize("spread", [False, True])
def test_ends_in_a_bias_behind(name: str, spread: bool) -> None:
    nodes, constants, dims = DOWN[name]
    shift = channels(4, rank=len(dims)) if spread else f32(-0.7)
    model = before(nodes, shift, constants, dims)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert len(after.model.graph.node) == len(model.graph.node) - 1
    assert_same_answers(model, after.model, rtol=2e-5)


@pytest.mark.parametrize(
    ("middle", "more"),
    [
        pytest.param([node("Conv", "m w b", "y", pads=[0, 0, 0, 1])], CONV, id="pads"),
        pytest.param([node("Conv", "m w b", "y", auto_pad="SAME_UPPER")], CONV, id="pads by size"),
        pytest.param([node("ConvTranspose", "m w", "y")], weights(w=(4, 8, 3, 3)), id="ConvTranspose"),
        pytest.param([node("MatMul", "m w", "y")], weights(w=(6, 3)), id="no bias"),
        pytest.param([node("Relu", "m", "r"), node("Conv", "r w b", "y")], CONV, id="Relu"),
        pytest.param([node("Mul", "m e", "y")], {}, id="a factor"),
    ],
)
def test_stays_before(middle: Nodes, more: Constants) -> None:
    assert_stays(before(middle, f32(0.7), more, (2, 4, 6, 6)), RULE)


def test_stays_where_one_constant_varies_over_pixels() -> None:
    shift = np.random.default_rng(0).normal(size=(4, 6, 6)).astype(np.float32)
    assert_stays(before([node("Conv", "m w b", "y")], shift, CONV, (2, 4, 6, 6)), RULE, "")


def test_stays_out_of_integers() -> None:
    nodes = [node("Add", "x t", "m"), node("Transpose", "m", "p"), node("Add", "p k", "y")]
    constants = {"t": np.array(2, np.int64), "k": np.array(3, np.int64)}
    model = chain(nodes, constants, (2, 3), dtype=TensorProto.INT64)
    assert_stays(model, RULE, "")


def test_merges_with_a_constant_behind_a_transpose() -> None:
    nodes = [node("Exp", "x", "e"), node("Add", "e t", "m"), node("Transpose", "m", "p"),
             node("Sub", "k p", "z"), node("Tanh", "z", "y")]  # fmt: skip
    assert_folds(chain(nodes, {"t": f32([1, 2, 3]), "k": f32([[5], [6], [7]])}, (2, 3)), RULE, "Add")
