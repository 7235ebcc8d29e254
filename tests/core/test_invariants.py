"""Invariants: each kind of break is found, and sound graphs pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from fuseonnx.core.invariants import check
from fuseonnx.io.load import load
from tests.io.models import every_place


@pytest.fixture
def model() -> ir.Model:
    return ir.from_proto(every_place())


def _node(graph: ir.Graph, op_type: str) -> ir.Node:
    return next(node for node in graph if node.op_type == op_type)


def _body(model: ir.Model) -> ir.Graph:
    return _node(model.graph, "If").attributes["then_branch"].as_graph()


def _duplicate_value(model: ir.Model) -> None:
    _node(model.graph, "Mul").outputs[0].name = "a"


def _value_named_as_an_input(model: ir.Model) -> None:
    _node(model.graph, "Mul").outputs[0].name = "x"


def _value_named_as_an_initializer(model: ir.Model) -> None:
    _node(model.graph, "Mul").outputs[0].name = "raw"


def _duplicate_in_a_body(model: ir.Model) -> None:
    _node(_body(model), "Add").outputs[0].name = "then_w"


def _initializer_without_data(model: ir.Model) -> None:
    model.graph.initializers["raw"].const_value = None


def _initializer_gone(model: ir.Model) -> None:
    model.graph.initializers.pop("raw")


def _initializer_of_a_body_gone(model: ir.Model) -> None:
    _body(model).initializers.pop("then_w")


def _producer_gone(model: ir.Model) -> None:
    model.graph.remove(_node(model.graph, "Mul"))


def _producer_after_its_user(model: ir.Model) -> None:
    node = _node(model.graph, "Add")
    model.graph.remove(node)
    model.graph.append(node)


def _producer_after_the_body_that_captures_it(model: ir.Model) -> None:
    node = _node(model.graph, "Shift")
    model.graph.remove(node)
    model.graph.append(node)


def _output_of_nothing(model: ir.Model) -> None:
    model.graph.outputs[0] = ir.Value(name="nothing")


def _output_of_a_removed_node(model: ir.Model) -> None:
    model.graph.remove(_node(model.graph, "If"))


def _value_of_a_body_used_outside(model: ir.Model) -> None:
    inner = _node(_body(model), "Add").outputs[0]
    _node(model.graph, "Mul").replace_input_with(0, inner)


def _value_of_a_function_used_outside(model: ir.Model) -> None:
    (function,) = model.functions.values()
    _node(model.graph, "Mul").replace_input_with(0, function.outputs[0])


def _break_in_a_function(model: ir.Model) -> None:
    (function,) = model.functions.values()
    function.graph.remove(_node(function.graph, "Constant"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_duplicate_value, "'a' is defined twice"),
        (_value_named_as_an_input, "'x' is defined twice"),
        (_value_named_as_an_initializer, "'raw' is defined twice"),
        (_duplicate_in_a_body, "'then_w' is defined twice"),
        (_initializer_without_data, "'raw' has no data"),
        (_initializer_gone, "'add_raw' reads 'raw'"),
        (_initializer_of_a_body_gone, "'then_add' reads 'then_w'"),
        (_producer_gone, "'sub_constant' reads 'b'"),
        (_producer_after_its_user, "'mul_floats' reads 'a'"),
        (_producer_after_the_body_that_captures_it, "reads 's'"),
        (_output_of_nothing, "nothing defines the graph output 'nothing'"),
        (_output_of_a_removed_node, "nothing defines the graph output 'y'"),
        (_value_of_a_body_used_outside, "reads 'then_y'"),
        (_value_of_a_function_used_outside, "reads 'q'"),
        (_break_in_a_function, "reads 'k'"),
    ],
)
def test_every_break_is_found(model: ir.Model, damage: Callable[[ir.Model], None], words: str) -> None:
    damage(model)
    found = check(model)
    assert found is not None
    assert words in found


def test_sound_models_pass(model: ir.Model, real_models: dict[str, Path]) -> None:
    assert check(model) is None
    for path in real_models.values():
        assert check(load(path).model) is None


def test_sparse_initializers_are_no_break(tmp_path: Path) -> None:
    values = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [2.0])
    indices = onnx.helper.make_tensor("i", onnx.TensorProto.INT64, [1], [4])
    proto = every_place()
    proto.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [40]))
    proto.graph.node[1].input[1] = "w"
    path = tmp_path / "sparse.onnx"
    path.write_bytes(proto.SerializeToString())
    assert check(load(path).model) is None
