"""lift_constants: Constant nodes of every spelling become initializers where that is possible."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.helpers import assert_same_answers, f32, make_model, rewrite

RULE = "lift_constants"
BITS = np.array([0x80000000, 0x7FC00123], np.uint32).view(np.float32)
SPELLINGS: dict[str, dict[str, Any]] = {
    "tensor": {"value": numpy_helper.from_array(f32([1, 2]))},
    "float": {"value_float": 0.1},
    "floats": {"value_floats": [0.1, -0.0]},
    "int": {"value_int": 1 << 40},
    "ints": {"value_ints": [-1, 1 << 40]},
    "no floats": {"value": numpy_helper.from_array(np.zeros(0, np.float32))},
    "half": {"value": numpy_helper.from_array(np.array([1, 2], np.float16))},
    "bool": {"value": numpy_helper.from_array(np.array(True))},
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_lifts_each_spelling_with_its_type_and_shape(spelling: str) -> None:
    nodes = [
        helper.make_node("Constant", [], ["c"], **SPELLINGS[spelling]),
        helper.make_node("Identity", ["c"], ["y"]),
    ]
    model = make_model(nodes, {}, ["y"])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert after.ops == {"Identity": 1}
    assert [tensor.name for tensor in after.model.graph.initializer] == ["c"]
    assert_same_answers(model, after.model, {}, rtol=0)


@pytest.mark.parametrize("attributes", [{"value_string": "a"}, {"value_strings": ["a", "b"]}], ids=str)
def test_lifts_strings(attributes: dict[str, Any]) -> None:
    nodes = [
        helper.make_node("Constant", [], ["c"], **attributes),
        helper.make_node("Identity", ["c"], ["y"]),
    ]
    model = make_model(nodes, {}, ["y"])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 1}
    assert_same_answers(model, after.model, {})


def test_keeps_every_bit() -> None:
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(BITS)),
        helper.make_node("Identity", ["c"], ["y"]),
    ]
    after = rewrite(make_model(nodes, {}, ["y"]), RULE)
    assert numpy_helper.to_array(after.model.graph.initializer[0]).tobytes() == BITS.tobytes()


def test_lifts_in_bodies_that_share_names() -> None:
    branches = {
        f"{name}_branch": helper.make_graph(
            [
                helper.make_node("Constant", [], ["c"], value_floats=[value, value]),
                helper.make_node("Mul", ["x", "c"], ["o"]),
            ],
            name,
            [],
            [helper.make_tensor_value_info("o", TensorProto.FLOAT, [2])],
        )
        for name, value in (("then", 2.0), ("else", 3.0))
    }
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Cast", ["s"], ["flag"], to=TensorProto.BOOL),
        helper.make_node("If", ["flag"], ["y"], **branches),
    ]
    model = make_model(nodes, {"x": [2]}, ["y"])
    after = rewrite(model, RULE)
    assert after.fired == {RULE: 2}
    for x in ([1, 2], [1, -1]):
        assert_same_answers(model, after.model, {"x": f32(x)})


def test_keeps_a_graph_output() -> None:
    model = make_model([helper.make_node("Constant", [], ["y"], value_float=1.0)], {}, ["y"])
    after = rewrite(model, RULE)
    assert (after.fired, after.ops) == ({}, {"Constant": 1})
    assert_same_answers(model, after.model, {})


def test_keeps_those_of_functions_which_cannot_hold_initializers() -> None:
    model = make_model([helper.make_node("Relu", ["x"], ["y"])], {"x": [2]}, ["y"])
    inner = [
        helper.make_node("Constant", [], ["c"], value_floats=[1.0, 2.0]),
        helper.make_node("Mul", ["x", "c"], ["y"]),
    ]
    model.functions.append(
        helper.make_function("test", "f", ["x"], ["y"], inner, [helper.make_opsetid("", 17)])
    )
    model.opset_import.append(helper.make_opsetid("test", 1))
    model.graph.node[0].CopyFrom(helper.make_node("f", ["x"], ["y"], domain="test"))
    after = rewrite(model, RULE)
    assert after.fired == {}
    assert_same_answers(model, after.model)
