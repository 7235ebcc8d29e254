"""fold_position_gather: what it keeps out of and why, then what fires."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.helpers import assert_same_answers, make_model, node, rewrite
from tests.passes.chains import Dims, assert_stays, ints

RULE = "fold_position_gather"
OTHER = "they are not the positions of the data"


def gathered(
    dims: Dims = ("n", "m"),
    *,
    start: int = 0,
    step: int = 1,
    order: str = "row_ column_",
    limits: str = "n m",
    batch_dims: int = 0,
) -> onnx.ModelProto:
    """x: int64 [n, m], gathered at rows [n, 1, 1, 1] and columns [1, 1, 1, m] as PyTorch's exporter does."""
    n, m = limits.split()
    nodes = [
        node("Shape", "x", "n_", start=0, end=1),
        node("Shape", "x", "m_", start=1, end=2),
        node("Squeeze", "n_", "n"),
        node("Squeeze", "m_", "m"),
        node("Range", f"start {n} step", "rows"),
        node("Range", f"zero {m} one", "columns"),
        node("Unsqueeze", "rows behind", "row"),
        node("Unsqueeze", "columns before", "column"),
        node("Max", "row column", "both"),
        node("Shape", "both", "shape"),
        node("Expand", "row shape", "row4"),
        node("Expand", "column shape", "column4"),
        node("Unsqueeze", "row4 last", "row_"),
        node("Unsqueeze", "column4 last", "column_"),
        node("Concat", order, "at", axis=-1),
        node("GatherND", "x at", "y", batch_dims=batch_dims),
    ]
    weights = ints(behind=[1, 2, 3], before=[0, 1, 2], last=[-1])
    weights |= {name: np.array(number) for name, number in (("zero", 0), ("one", 1))}
    weights |= {"start": np.array(start), "step": np.array(step)}
    return make_model(nodes, {"x": dims}, ["y"], weights, dtype=TensorProto.INT64)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(gathered(start=1), id="from the second row on"),
        pytest.param(gathered(step=2), id="every second row"),
        pytest.param(gathered(["n", "n"], order="column_ row_"), id="transposed"),
        pytest.param(gathered([4, 3], limits="m m"), id="not all rows"),
        pytest.param(gathered(["n", "m", 2]), id="whole rows of what lies behind"),
    ],
)
def test_keeps(model: onnx.ModelProto) -> None:
    assert_stays(RULE, model, OTHER)


def test_keeps_batches() -> None:
    nodes = [
        node("Concat", "column column", "at", axis=-1),
        node("GatherND", "x at", "y", batch_dims=1),
    ]
    weights = {"column": np.array([[0], [1]])}
    model = make_model(nodes, {"x": [2, 3, 4]}, ["y"], weights)
    assert_stays(RULE, model, "each batch has coordinates of its own")


@pytest.mark.parametrize("dims", [("n", "m"), (2, "m"), ("n", 5), (2, 5)])
def test_fires(dims: Dims) -> None:
    model = gathered(dims)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Unsqueeze": 1}
    for sizes in ({"n": 2, "m": 5}, {"n": 1, "m": 1}):
        shape = [sizes[dim] if isinstance(dim, str) else dim or 0 for dim in dims]
        feeds = {"x": np.random.default_rng(0).integers(-9, 9, shape)}
        assert_same_answers(model, after.model, feeds)
