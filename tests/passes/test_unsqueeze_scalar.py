"""unsqueeze_scalar: what it keeps out of, then what fires."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.helpers import assert_same_answers, make_model, node, rewrite

RULE = "unsqueeze_scalar"
Dims = Sequence[int | str | None]


def arithmetic(
    op: str = "Add",
    dims: Dims = ("n", 28, 28, 1),
    rank: int = 0,
    inputs: str = "x c",
    *,
    numbers: int = 1,
    opset: int = 17,
    overridable: Sequence[str] = (),
) -> onnx.ModelProto:
    """x and a constant."""
    constant = np.full((numbers,) if numbers > 1 else (1,) * rank, 2.5, np.float32)
    nodes = [node(op, inputs, "y")]
    return make_model(nodes, {"x": dims}, ["y"], {"c": constant}, opset=opset, overridable=overridable)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(arithmetic(dims=("n", 28, 28, 3)), id="the last axis is longer"),
        pytest.param(arithmetic(dims=("n", 28, 28, "c")), id="the last axis is unknown"),
        pytest.param(arithmetic(dims=("n", 1), rank=2), id="the rank is the same"),
        pytest.param(arithmetic(dims=("n", 1), rank=3), id="the rank of the number is higher"),
        pytest.param(arithmetic(numbers=5), id="several numbers"),
        pytest.param(arithmetic(overridable=["c"]), id="no constant"),
        pytest.param(arithmetic(dims=()), id="a single number"),
    ],
)
def test_does_not_match(model: onnx.ModelProto) -> None:
    after = rewrite(model, RULE)
    assert not after.fired
    assert not after.declined.get(RULE, {})


def test_keeps_out_of_a_few_elements() -> None:
    after = rewrite(arithmetic(dims=(1, 15, 1)), RULE)
    assert not after.fired
    assert after.declined[RULE] == {"there are only a few elements": 1}


@pytest.mark.parametrize("inputs", ["x c", "c x"])
@pytest.mark.parametrize(
    "op",
    [
        *("Add", "Div", "Max", "Min", "Mul", "Pow", "Sub"),
        *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
    ],
)
def test_fires(op: str, inputs: str) -> None:
    model = arithmetic(op, inputs=inputs)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    (only,) = after.model.graph.node
    numbers = {each.name: numpy_helper.to_array(each) for each in after.model.graph.initializer}
    assert [numbers[name].shape for name in only.input if name in numbers] == [(1, 1, 1, 1)]
    assert list(only.input).index("x") == inputs.split().index("x")
    x = np.abs(np.random.default_rng(0).normal(size=(2, 28, 28, 1))).astype(np.float32)
    assert_same_answers(model, after.model, {"x": x})


@pytest.mark.parametrize(("dims", "rank"), [(("n", 1), 1), ((16, 1), 0), (("n", 4, 1, 1), 3), ((None, 1), 1)])
def test_fires_on_any_rank(dims: Dims, rank: int) -> None:
    model = arithmetic(dims=dims, rank=rank)
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model)
    assert not rewrite(after.model, RULE).fired


def test_leaves_a_number_that_others_use_as_it_is() -> None:
    nodes = [node("Add", "x c", "y"), node("Mul", "z c", "w")]
    model = make_model(nodes, {"x": ("n", 1), "z": ("n", 5)}, ["y", "w"], {"c": np.array(3, np.float32)})
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model)
