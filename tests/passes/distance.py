"""Shared by the tests of folds over a distance: chains between a constant change and the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.helpers import assert_same_answers, f32, make_model, rewrite

RNG_SEED = 11
Dims = Sequence[int | str | None]


def weights(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return random weights by name."""
    rng = np.random.default_rng(RNG_SEED)
    return {name: f32(rng.normal(size=shape)) for name, shape in shapes.items()}


def channels(count: int, *, rank: int = 4, axis: int = 1) -> np.ndarray:
    """Return positive numbers, one for each index of an axis, shaped to broadcast."""
    values = np.random.default_rng(RNG_SEED).uniform(0.5, 2, count)
    return f32(values.reshape([-1 if index == axis else 1 for index in range(rank)]))


def chain(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    dims: Dims = ("batch", 4, 6, 6),
    outputs: Sequence[str] = ("y",),
    *,
    opset: int = 17,
    dtype: int = TensorProto.FLOAT,
    overridable: Sequence[str] = (),
) -> onnx.ModelProto:
    """Build a model of `x`; float constants become `dtype`."""
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    cast = {name: each.astype(kind) if each.dtype == np.float32 else each for name, each in constants.items()}
    return make_model(nodes, {"x": dims}, outputs, cast, opset=opset, dtype=dtype, overridable=overridable)


def assert_folds(
    model: onnx.ModelProto, rule: str, *gone: str, times: int = 1, rtol: float = 2e-5
) -> onnx.ModelProto:
    """Assert that `rule` fires so often, that no node of `gone` is left, and that the answers stay."""
    after = rewrite(model, rule)
    assert after.fired == {rule: times}
    assert not set(gone) & set(after.ops)
    assert len(after.model.graph.node) == len(model.graph.node) - times
    assert list(after.model.graph.output) == list(model.graph.output)
    assert_same_answers(model, after.model, rtol=rtol)
    again = rewrite(after.model, rule)
    assert again.fired == {}
    return after.model


def assert_stays(
    model: onnx.ModelProto, rule: str, reason: str = "no weights within reach absorb it"
) -> None:
    """Assert that `rule` does not fire, and says why ("" if there is nothing for it to look at)."""
    after = rewrite(model, rule)
    assert after.fired == {}
    assert set(after.declined.get(rule, {})) == ({reason} if reason else set())
    assert_same_answers(model, after.model)
