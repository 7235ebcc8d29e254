"""eliminate_noop_arithmetic: what it keeps out of and why, then what fires."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.helpers import make_model, rewrite
from tests.passes.noops import (
    PLACES,
    assert_dropped,
    assert_kept,
    assert_kept_between_input_and_output,
    identity,
)

RULE = "eliminate_noop_arithmetic"
DIMS = ("batch", 4)
ADD = helper.make_node("Add", ["x", "c"], ["y"])


def ones(*shape: int, dtype: type = np.float32) -> dict[str, np.ndarray]:
    return {"c": np.ones(shape, dtype=dtype)}


def zeros(*shape: int, dtype: type = np.float32) -> dict[str, np.ndarray]:
    return {"c": np.zeros(shape, dtype=dtype)}


@pytest.mark.parametrize(
    ("op", "inputs", "value"),
    [
        ("Add", "xc", 1),
        ("Sub", "xc", 1),
        ("Sub", "cx", 0),
        ("Mul", "xc", 0),
        ("Mul", "xc", np.nextafter(np.float32(1), np.float32(2))),
        ("Div", "cx", 1),
        ("Pow", "xc", 2),
        ("Pow", "cx", 1),
        ("Add", "xc", np.nan),
        ("Add", "xc", np.finfo(np.float32).smallest_subnormal),
    ],
)
def test_keeps_what_is_not_neutral(op: str, inputs: str, value: float) -> None:
    weights = {"c": np.full((1, 4), value, dtype=np.float32)}
    assert_kept(RULE, [helper.make_node(op, list(inputs), ["y"])], DIMS, "", weights)


def test_keeps_what_is_neutral_but_in_one_element() -> None:
    assert_kept(RULE, [ADD], DIMS, "", {"c": np.array([0, 0, 0, 1e-30], dtype=np.float32)})


def test_keeps_a_constant_that_the_caller_may_override() -> None:
    assert_kept(RULE, [ADD], DIMS, "", zeros(), overridable=["c"])


@pytest.mark.parametrize(
    ("dims", "shape"),
    [
        pytest.param((4,), (1, 4), id="adds an axis"),
        pytest.param((4,), (1, 1), id="adds an axis, one element"),
        pytest.param((1, 4), (3, 4), id="grows a dim"),
        pytest.param(("batch", 4), (3, 4), id="a symbolic dim may be 1"),
        pytest.param((), (1,), id="a scalar becomes a vector"),
    ],
)
def test_keeps_what_may_change_the_shape(dims: tuple[int | str, ...], shape: tuple[int, ...]) -> None:
    assert_kept(RULE, [ADD], dims, "the shape may change", zeros(*shape))


@pytest.mark.parametrize(("shape", "fires"), [((), True), ((1,), False)])
def test_fires_on_an_unknown_rank_for_scalars_alone(shape: tuple[int, ...], fires: bool) -> None:
    function = helper.make_function(
        "test",
        "AddZero",
        ["in"],
        ["out"],
        [
            identity("in", "x"),
            helper.make_node(
                "Constant",
                [],
                ["c"],
                value=helper.make_tensor("c", TensorProto.FLOAT, shape, [0.0]),
            ),
            ADD,
            identity("y", "out"),
        ],
        [helper.make_opsetid("", 17)],
    )
    model = make_model([identity("in", "out")], {"in": DIMS}, ["out"])
    model.graph.node[0].CopyFrom(helper.make_node("AddZero", ["in"], ["out"], domain="test"))
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("test", 1))
    after = rewrite(model, RULE)
    assert after.fired == ({RULE: 1} if fires else {})
    assert after.declined[RULE] == ({} if fires else {"the shape may change": 1})


def test_keeps_the_broadcasting_of_before_opset_7() -> None:
    assert_kept(RULE, [helper.make_node("Add", ["x", "c"], ["y"], broadcast=1)], DIMS, "", zeros(4), opset=6)


def test_keeps_names_of_input_and_output() -> None:
    assert_kept_between_input_and_output(RULE, [ADD], DIMS, zeros())


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize(
    ("op", "inputs", "weights"),
    [
        ("Add", "xc", zeros()),
        ("Add", "cx", zeros(1)),
        ("Sub", "xc", zeros(4)),
        ("Mul", "xc", ones(1, 1)),
        ("Mul", "cx", ones(1, 4)),
        ("Div", "xc", ones()),
        ("Pow", "xc", ones()),
        ("Pow", "xc", ones(dtype=np.int64)),
    ],
)
def test_fires(where: str, op: str, inputs: str, weights: dict[str, np.ndarray]) -> None:
    assert_dropped(RULE, where, [helper.make_node(op, list(inputs), ["y"])], DIMS, weights)


@pytest.mark.parametrize(
    ("op", "dtype", "weights"),
    [
        pytest.param("Add", TensorProto.INT64, zeros(4, dtype=np.int64), id="int64"),
        pytest.param("Div", TensorProto.INT32, ones(dtype=np.int32), id="int32"),
        pytest.param("Mul", TensorProto.FLOAT16, ones(1, dtype=np.float16), id="float16"),
        pytest.param("Mul", TensorProto.DOUBLE, ones(4, dtype=np.float64), id="float64"),
    ],
)
def test_fires_for_every_type(op: str, dtype: int, weights: dict[str, np.ndarray]) -> None:
    node = helper.make_node(op, ["x", "c"], ["y"])
    assert_dropped(RULE, "in the middle", [node], DIMS, weights, dtype=dtype)


@pytest.mark.parametrize(("op", "neutral"), [("And", True), ("Or", False)])
def test_fires_for_logic(op: str, neutral: bool) -> None:
    node = helper.make_node(op, ["c", "x"], ["y"])
    feeds = {"in": np.array([[True, False, False, True]])}
    weights = {"c": np.array([neutral])}
    assert_dropped(RULE, "in the middle", [node], DIMS, weights, dtype=TensorProto.BOOL, feeds=feeds)


def test_reads_no_large_constants() -> None:
    model = make_model([identity("in", "x"), ADD], {"in": [300, 300]}, ["y"], zeros(300, 300))
    assert rewrite(model, RULE).fired == {}
