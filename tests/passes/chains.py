"""Shared by the tests of merges: build a chain from x to y, and say what is left of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto

from tests.helpers import Feeds, Rewritten, assert_same_answers, make_model, node, rewrite

Dims = Sequence[int | str | None]
Weights = Mapping[str, np.ndarray]


def ints(**lists: Sequence[int]) -> dict[str, np.ndarray]:
    """Return int64 initializers."""
    return {name: np.array(values, dtype=np.int64) for name, values in lists.items()}


def chain(
    nodes: Sequence[onnx.NodeProto],
    dims: Dims,
    weights: Weights | None = None,
    *,
    opset: int = 17,
    dtype: int = TensorProto.FLOAT,
    outputs: Sequence[str] = ("out",),
    overridable: Sequence[str] = (),
    others: Mapping[str, Dims] | None = None,
) -> onnx.ModelProto:
    """Build a model of nodes from x to y, between two Identity nodes (in, out)."""
    around = [node("Identity", "in", "x"), *nodes, node("Identity", "y", "out")]
    return make_model(
        around,
        {"in": dims, **(others or {})},
        outputs,
        weights,
        opset=opset,
        dtype=dtype,
        overridable=overridable,
    )


def assert_merges(
    rule: str,
    model: onnx.ModelProto,
    ops: Mapping[str, int],
    *,
    feeds: Feeds | None = None,
    times: int = 1,
    rtol: float = 1e-5,
) -> Rewritten:
    """Assert that the rule fires so often, that `ops` are left (and Identity), and that the answers stay."""
    after = rewrite(model, rule)
    assert after.fired == {rule: times}
    assert {op: count for op, count in after.ops.items() if op != "Identity"} == dict(ops)
    assert_same_answers(model, after.model, feeds, rtol=rtol)
    return after


def assert_stays(rule: str, model: onnx.ModelProto, reason: str) -> None:
    """Assert that the rule does not fire, and why ("" if it gives no reason)."""
    after = rewrite(model, rule)
    assert after.fired == {}
    assert set(after.declined.get(rule, {})) == ({reason} if reason else set())
