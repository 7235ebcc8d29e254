"""merge_casts_into_normalization: what fires, and each precondition broken once."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.helpers import assert_same_answers, f32, make_model, node, random_feeds, rewrite
from tests.passes.fusions import assert_fuses, assert_stays

RULE = "merge_casts_into_normalization"
HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT
WIDTH = 24


def model(
    scale: np.ndarray | None = None, *, back: int = HALF, dtype: int = HALF, overridable: tuple[str, ...] = ()
) -> onnx.ModelProto:
    nodes = [
        node("Cast", "x", "c", to=FLOAT),
        node("RMSNormalization", "c scale", "n", epsilon=1e-6),
        node("Cast", "n", "y", to=back),
    ]
    weights = {"scale": np.ones(WIDTH, np.float32) if scale is None else scale}
    return make_model(
        nodes, {"x": ["batch", WIDTH]}, ["y"], weights, opset=23, dtype=dtype, overridable=overridable
    )


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_normalizes_float16(size: float) -> None:
    built = model()
    feeds = {
        name: (array * np.float16(size)).astype(np.float16) for name, array in random_feeds(built).items()
    }
    assert_fuses(built, RULE, leaves={"RMSNormalization": 1}, feeds=feeds, rtol=0)


@pytest.mark.parametrize("value", [np.nan, np.inf, 65504, 6e-8, 0])
def test_keeps_what_is_not_a_number_and_what_would_overflow(value: float) -> None:
    built = model()
    feeds = random_feeds(built)
    feeds["x"][0], feeds["x"][1, 2] = value, value
    assert_fuses(built, RULE, leaves={"RMSNormalization": 1}, feeds=feeds, rtol=0)


def test_fuses_the_spelling_of_llama_as_a_whole() -> None:
    nodes = [
        node("Cast", "x", "c", to=FLOAT),
        node("Pow", "c two", "p"),
        node("ReduceMean", "p axes", "m", keepdims=1),
        node("Add", "m epsilon", "e"),
        node("Sqrt", "e", "s"),
        node("Reciprocal", "s", "r"),
        node("Mul", "c r", "n"),
        node("Cast", "n", "h", to=HALF),
        node("Mul", "gamma h", "y"),
    ]
    gamma = np.random.default_rng(0).uniform(0.5, 2, WIDTH).astype(np.float16)
    weights = {"two": f32(2), "axes": np.array([-1]), "epsilon": f32(1e-6), "gamma": gamma}
    built = make_model(nodes, {"x": ["batch", WIDTH]}, ["y"], weights, opset=23, dtype=HALF)
    after = rewrite(built)
    assert after.ops == {"RMSNormalization": 1}
    assert_same_answers(built, after.model, rtol=1e-3)


def test_keeps_out_of_other_types() -> None:
    reason = "it does not come from float16 and go back there"
    assert_stays(model(back=TensorProto.DOUBLE), RULE, reason)
    assert_stays(model(dtype=TensorProto.DOUBLE), RULE, reason)


def test_keeps_out_of_a_scale_in_float32() -> None:
    scale = np.linspace(0.5, 1.5, WIDTH, dtype=np.float32)
    assert_stays(model(scale), RULE, "it is scaled in float32")


def test_keeps_out_of_a_scale_that_may_come_with_a_run() -> None:
    assert_stays(model(overridable=("scale",)), RULE, "")
