"""Shared by the tests of rewrites that combine linear operators: weights, and the check that one fires."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.helpers import Rewritten, assert_same_answers, make_model, rewrite

Dims = Sequence[int | str | None]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Return random float32 numbers, the same for the same shape and seed."""
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    dims: Dims,
    weights: Mapping[str, np.ndarray],
    *,
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
    dtype: int = TensorProto.FLOAT,
    overridable: Sequence[str] = (),
    inputs: Mapping[str, Dims] | None = None,
) -> onnx.ModelProto:
    """Build a model from `x` with these dims; float32 weights become `dtype`."""
    to = helper.tensor_dtype_to_np_dtype(dtype)
    cast = {name: each.astype(to) if each.dtype == np.float32 else each for name, each in weights.items()}
    feeds = {"x": dims, **(inputs or {})}
    return make_model(nodes, feeds, outputs, cast, opset=opset, dtype=dtype, overridable=overridable)


def assert_becomes(
    model: onnx.ModelProto, rule: str, ops: Mapping[str, int], *, times: int = 1, rtol: float = 1e-5
) -> Rewritten:
    """Assert that `rule` alone leaves these operators, and the answers."""
    after = rewrite(model, rule)
    assert after.fired == {rule: times}
    assert after.ops == ops
    assert list(after.model.graph.output) == list(model.graph.output)
    assert_same_answers(model, after.model, rtol=rtol)
    return after


def assert_kept(model: onnx.ModelProto, rule: str, *reasons: str) -> None:
    """Assert that `rule` does not fire, and which reasons it gives."""
    after = rewrite(model, rule)
    assert after.fired == {}
    assert set(after.declined.get(rule, {})) == set(reasons)
    assert_same_answers(model, after.model)
