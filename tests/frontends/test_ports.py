"""Inputs and outputs get their names, and nothing else changes."""

from __future__ import annotations

import copy

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from fuseonnx.errors import OptionError
from fuseonnx.frontends._ports import name_ports
from tests.helpers import make_model, run_reference

NODES = (
    helper.make_node("Relu", ["x"], ["image"]),
    helper.make_node("Add", ["image", "logits"], ["y"]),
    helper.make_node("Neg", ["y"], ["z"]),
)
WEIGHTS = {"logits": np.array([1.0, -2.0, 3.0], np.float32)}
X = np.array([[-1.0, 2.0, 0.5]], np.float32)


def _named(inputs: list[str], outputs: list[str]) -> dict[str, np.ndarray]:
    original = make_model(NODES, {"x": [1, 3]}, ["y", "z"], WEIGHTS)
    model = ir.from_proto(copy.deepcopy(original))
    name_ports(model.graph, inputs, outputs)
    found = run_reference(ir.to_proto(model), {inputs[0] if inputs else "x": X})
    expected = run_reference(original, {"x": X})
    for value, other in zip(found.values(), expected.values(), strict=True):
        np.testing.assert_array_equal(value, other)
    return found


def test_names_that_values_inside_have_are_made_free() -> None:
    assert list(_named(["image"], ["logits", "x"])) == ["logits", "x"]


def test_no_names_keep_what_is_there() -> None:
    assert list(_named([], [])) == ["y", "z"]


def test_names_may_be_exchanged() -> None:
    assert list(_named([], ["z", "y"])) == ["z", "y"]


def test_an_output_that_is_an_input_or_listed_twice_gets_a_value_of_its_own() -> None:
    model = ir.from_proto(make_model(NODES, {"x": [1, 3]}, ["y"], WEIGHTS))
    model.graph.outputs.extend([model.graph.inputs[0], model.graph.outputs[0]])
    name_ports(model.graph, [], ["a", "b", "c"])
    found = run_reference(ir.to_proto(model), {"x": X})
    np.testing.assert_array_equal(found["b"], X)
    np.testing.assert_array_equal(found["c"], found["a"])


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        (["a", "b"], [], "2 input names are given, the model has 1 inputs"),
        ([], ["a"], "1 output names are given, the model has 2 outputs"),
        ([], ["a", "a"], "two inputs or outputs would be called 'a'"),
        (["y"], [], "two inputs or outputs would be called 'y'"),
    ],
)
def test_names_that_do_not_fit(inputs: list[str], outputs: list[str], message: str) -> None:
    model = ir.from_proto(make_model(NODES, {"x": [1, 3]}, ["y", "z"], WEIGHTS))
    with pytest.raises(OptionError, match=message):
        name_ports(model.graph, inputs, outputs)
