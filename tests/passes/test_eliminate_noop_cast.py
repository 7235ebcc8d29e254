"""eliminate_noop_cast: what it keeps out of and why, then what fires."""

from __future__ import annotations

import pytest
from onnx import NodeProto, TensorProto, helper

from tests.helpers import assert_same_answers, make_model, rewrite
from tests.passes.noops import PLACES, assert_dropped, assert_kept, assert_kept_between_input_and_output

RULE = "eliminate_noop_cast"
DIMS = ("batch", 4)
TO_FLOAT = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
TO_HALF = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT16)


def test_keeps_a_change_of_type() -> None:
    assert_kept(RULE, [TO_HALF], DIMS, "it changes the type")


def test_keeps_a_type_that_is_only_like_it() -> None:
    assert_kept(RULE, [TO_FLOAT], DIMS, "it changes the type", dtype=TensorProto.DOUBLE)


def test_keeps_a_round_trip_that_rounds() -> None:
    there = helper.make_node("Cast", ["in"], ["half"], to=TensorProto.FLOAT16)
    back = helper.make_node("Cast", ["half"], ["y"], to=TensorProto.FLOAT)
    model = make_model([there, back], {"in": DIMS}, ["y"])
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined == {RULE: {"it changes the type": 2}}


def test_keeps_an_unknown_type() -> None:
    foreign = helper.make_node("Thing", ["in"], ["x"], domain="test")
    inner = helper.make_function(
        "test",
        "Thing",
        ["a"],
        ["b"],
        [helper.make_node("Cast", ["a"], ["b"], to=TensorProto.FLOAT)],
        [helper.make_opsetid("", 17)],
    )
    model = make_model([helper.make_node("Relu", ["in"], ["y"])], {"in": DIMS}, ["y"])
    model.graph.node[0].CopyFrom(foreign)
    model.graph.node.append(helper.make_node("Relu", ["x"], ["y"]))
    model.functions.append(inner)
    model.opset_import.append(helper.make_opsetid("test", 1))
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert after.declined == {RULE: {"the type is unknown": 1}}
    assert_same_answers(model, after.model)


def test_keeps_names_of_input_and_output() -> None:
    assert_kept_between_input_and_output(RULE, [TO_FLOAT], DIMS)


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize(
    ("node", "opset", "dtype"),
    [
        pytest.param(TO_FLOAT, 17, TensorProto.FLOAT, id="float"),
        pytest.param(TO_FLOAT, 9, TensorProto.FLOAT, id="opset 9"),
        pytest.param(TO_HALF, 17, TensorProto.FLOAT16, id="half"),
        pytest.param(
            helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT64), 17, TensorProto.INT64, id="int"
        ),
        pytest.param(
            helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BOOL), 17, TensorProto.BOOL, id="bool"
        ),
        pytest.param(helper.make_node("CastLike", ["x", "x"], ["y"]), 17, TensorProto.FLOAT, id="like"),
    ],
)
def test_fires(where: str, node: NodeProto, opset: int, dtype: int) -> None:
    assert_dropped(RULE, where, [node], DIMS, opset=opset, dtype=dtype)
