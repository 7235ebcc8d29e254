"""eliminate_zero_term: terms that are zero everywhere, and those that are not, or give the sum its shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.helpers import assert_same_answers, make_model, node, rewrite

RULE = "eliminate_zero_term"
INDICES = np.arange(24).reshape(6, 4, 1) % 5
DIMS = ("n", 3, 6, 4)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    table: np.ndarray | None = None,
    dims: Sequence[int | str] = DIMS,
    outputs: Sequence[str] = ("y",),
) -> onnx.ModelProto:
    """The nodes on x, a table of zeros unless one is given, and indices into it."""
    zeros = np.zeros((5, 3), np.float32)
    known = {"table": zeros if table is None else table, "index": INDICES, "shape": np.array([6, 4])}
    used = {name for each in nodes for name in each.input}
    return make_model(nodes, {"x": dims}, outputs, {name: known[name] for name in known if name in used})


BIAS = [node("GatherND", "table index", "rows"), node("Transpose", "rows", "bias", perm=[2, 0, 1])]
ADD = node("Add", "x bias", "y")
FILLED = helper.make_tensor("value", onnx.TensorProto.FLOAT, [1], [0.5])


@pytest.mark.parametrize(
    "nodes",
    [
        [*BIAS, ADD],
        [*BIAS, node("Add", "bias x", "y")],
        [node("ConstantOfShape", "shape", "bias"), ADD],
    ],
    ids=["gathered", "the first term", "filled"],
)
def test_drops_zeros(nodes: list[onnx.NodeProto]) -> None:
    model = model_of([*nodes, node("Relu", "y", "z")], outputs=["z"])
    after = rewrite(model, RULE)
    assert after.fired[RULE] == 1
    assert after.ops.get("Add", 0) == 0
    assert_same_answers(model, after.model)
    assert RULE not in rewrite(after.model, RULE).fired


@pytest.mark.parametrize(
    "model",
    [
        model_of([*BIAS, ADD], np.eye(5, 3, dtype=np.float32)),
        model_of([*BIAS, ADD], np.full((5, 3), np.nan, np.float32)),
        model_of([node("ConstantOfShape", "shape", "bias", value=FILLED), ADD]),
        model_of([*BIAS, node("Exp", "bias", "e"), node("Add", "x e", "y")]),
        model_of([*BIAS, node("Mul", "x bias", "y")]),
    ],
    ids=["not zero", "NaN", "filled with another number", "zeros are computed with", "a product"],
)
def test_keeps_what_is_not_zero(model: onnx.ModelProto) -> None:
    assert rewrite(model, RULE).fired == {}


@pytest.mark.parametrize("dims", [(6, 4), (1, 6, 4), (3, 1, 4), (3, "m", 4)], ids=str)
def test_keeps_what_gives_the_sum_its_shape(dims: Sequence[int | str]) -> None:
    assert rewrite(model_of([*BIAS, ADD], dims=dims), RULE).fired == {}


def test_keeps_the_output_and_what_others_read() -> None:
    model = model_of([*BIAS, node("Identity", "x", "i"), node("Add", "i bias", "y")], outputs=["y", "bias"])
    after = rewrite(model, RULE)
    assert after.fired[RULE] == 1
    assert [each.name for each in after.model.graph.output] == ["y", "bias"]
    assert_same_answers(model, after.model)
