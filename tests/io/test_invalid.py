"""load: every kind of broken model is refused in one line that names the file."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import helper

from fuseonnx.errors import ModelLoadError
from fuseonnx.io.load import load
from tests.io.models import add_model, every_place, info, model_of, weight


def _cyclic() -> onnx.ModelProto:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    return model_of(helper.make_graph(nodes, "g", [info("x", [3])], [info("b", [3])]))


def _self_loop() -> onnx.ModelProto:
    nodes = [helper.make_node("Add", ["x", "a"], ["a"])]
    return model_of(helper.make_graph(nodes, "g", [info("x", [3])], [info("a", [3])]))


def _functions_in_a_circle() -> onnx.ModelProto:
    """The graph calls f, which calls g in a branch; g calls f."""
    nodes = {name: helper.make_node(name, ["a"], ["b"], domain="local") for name in "fg"}
    branch = helper.make_graph([nodes["g"]], "branch", [], [info("b", [3])])
    choice = helper.make_node("If", ["a"], ["b"], then_branch=branch, else_branch=branch)
    model = model_of(helper.make_graph([nodes["f"]], "graph", [info("a", [3])], [info("b", [3])]))
    model.opset_import.append(helper.make_opsetid("local", 1))
    for name, body in (("f", choice), ("g", nodes["f"])):
        function = helper.make_function("local", name, ["a"], ["b"], [body], list(model.opset_import))
        model.functions.append(function)
    return model


def _dangling_input() -> onnx.ModelProto:
    model = add_model(weight("w", 3), [3])
    del model.graph.initializer[:]
    return model


def _dangling_output() -> onnx.ModelProto:
    model = add_model(weight("w", 3), [3])
    model.graph.output[0].name = "nowhere"
    return model


def _dangling_in_body() -> onnx.ModelProto:
    model = every_place()
    model.graph.node[-1].attribute[0].g.node[0].input[0] = "nowhere"
    return model


def _reads_the_sibling_body() -> onnx.ModelProto:
    model = every_place()
    then_branch, else_branch = (attribute.g for attribute in model.graph.node[-1].attribute)
    else_branch.node[0].input[0] = then_branch.node[0].output[0]
    return model


def _dangling_in_function() -> onnx.ModelProto:
    model = every_place()
    model.functions[0].node[1].input[0] = "nowhere"
    return model


def _dangling_function_output() -> onnx.ModelProto:
    model = every_place()
    model.functions[0].output[0] = "nowhere"
    return model


def _two_nodes_one_name() -> onnx.ModelProto:
    model = add_model(weight("w", 3), [3])
    model.graph.node.add(op_type="Relu", input=["x"], output=["y"])
    return model


def _two_initializers_one_name() -> onnx.ModelProto:
    model = add_model(weight("w", 3), [3])
    model.graph.initializer.append(weight("w", 3, seed=5))
    return model


def _two_inputs_one_name() -> onnx.ModelProto:
    model = add_model(weight("w", 3), [3])
    model.graph.input.append(info("x", [3]))
    return model


def _node_writes_an_input() -> onnx.ModelProto:
    model = add_model(weight("w", 3), [3])
    model.graph.node.add(op_type="Relu", input=["y"], output=["x"])
    return model


def _node_writes_an_initializer() -> onnx.ModelProto:
    model = add_model(weight("w", 3), [3])
    model.graph.node.add(op_type="Relu", input=["y"], output=["w"])
    return model


def _node_without_outputs() -> onnx.ModelProto:
    model = add_model(weight("w", 3), [3])
    model.graph.node.add(op_type="Relu", input=["y"])
    return model


def _unnamed_initializer() -> onnx.ModelProto:
    model = add_model(weight("w", 3), [3])
    model.graph.initializer.append(weight("", 3))
    return model


def _short_payload() -> onnx.ModelProto:
    model = add_model(weight("w", 3), [3])
    model.graph.initializer[0].raw_data = bytes(8)
    return model


def _short_large_payload() -> onnx.ModelProto:
    model = add_model(weight("w", 3000), [3000])
    model.graph.initializer[0].raw_data = bytes(8000)
    return model


def _long_large_payload() -> onnx.ModelProto:
    model = add_model(weight("w", 3000), [3000])
    model.graph.initializer[0].raw_data = bytes(16000)
    return model


def _short_payload_in_constant() -> onnx.ModelProto:
    model = every_place()
    model.graph.node[0].attribute[0].t.raw_data = bytes(6000)
    return model


def _short_float_data() -> onnx.ModelProto:
    model = every_place()
    del model.graph.initializer[1].float_data[1500:]
    return model


def _negative_dims() -> onnx.ModelProto:
    model = add_model(weight("w", 3), [3])
    model.graph.initializer[0].dims[0] = -3
    return model


def _unknown_element_type() -> onnx.ModelProto:
    model = add_model(weight("w", 3), [3])
    model.graph.initializer[0].data_type = 99
    return model


def _unknown_opset() -> onnx.ModelProto:
    model = add_model(weight("w", 3), [3])
    model.opset_import[0].version = 999
    return model


def _unknown_ir_version() -> onnx.ModelProto:
    model = add_model(weight("w", 3), [3])
    model.ir_version = 999
    return model


def _training_info() -> onnx.ModelProto:
    model = add_model(weight("w", 3), [3])
    model.training_info.add()
    return model


def _no_graph() -> onnx.ModelProto:
    return onnx.ModelProto(ir_version=8)


def _no_outputs() -> onnx.ModelProto:
    model = add_model(weight("w", 3), [3])
    del model.graph.output[:]
    return model


def _dangling_body_output() -> onnx.ModelProto:
    model = every_place()
    model.graph.node[-1].attribute[0].g.output[0].name = "nowhere"
    return model


def _attribute_without_type() -> onnx.ModelProto:
    model = add_model(weight("w", 3), [3])
    model.graph.node[0].attribute.add(name="axis", i=1)
    return model


def _text_that_is_not_utf8() -> onnx.ModelProto:
    model = add_model(weight("w", 3), [3])
    model.graph.doc_string = "é" * 20
    data: bytes = model.SerializeToString().replace("é".encode(), b"\xc3\xc3", 1)
    damaged: onnx.ModelProto = onnx.ModelProto.FromString(data)
    return damaged


def _same_output_twice() -> onnx.ModelProto:
    model = add_model(weight("w", 3), [3])
    model.graph.output.append(model.graph.output[0])
    return model


INVALID = {
    make.__name__.strip("_"): (make, words)
    for make, words in (
        (_cyclic, "cycle"),
        (_self_loop, "cycle"),
        (_functions_in_a_circle, "the local function 'f' calls itself"),
        (_dangling_input, "reads 'w', which nothing produces"),
        (_dangling_output, "nothing produces the graph output 'nowhere'"),
        (_dangling_in_body, "reads 'nowhere'"),
        (_reads_the_sibling_body, "which nothing produces"),
        (_dangling_in_function, "reads 'nowhere'"),
        (_dangling_function_output, "'nowhere'"),
        (_two_nodes_one_name, "'y'"),
        (_two_initializers_one_name, "'w'"),
        (_two_inputs_one_name, "'x'"),
        (_node_writes_an_input, "'x'"),
        (_node_writes_an_initializer, "'w'"),
        (_node_without_outputs, "no output"),
        (_unnamed_initializer, "no name"),
        (_short_payload, "'w'"),
        (_short_large_payload, "'w'"),
        (_long_large_payload, "'w'"),
        (_short_payload_in_constant, "'c_value'"),
        (_short_float_data, "'floats'"),
        (_negative_dims, "'w'"),
        (_unknown_element_type, ""),
        (_unknown_opset, "opset 999"),
        (_unknown_ir_version, "IR version 999"),
        (_training_info, "training_info"),
        (_no_graph, "no graph"),
        (_no_outputs, "no output"),
        (_dangling_body_output, "nothing produces the graph output 'nowhere'"),
        (_attribute_without_type, "attribute 'axis' of node 'add' has no type"),
        (_text_that_is_not_utf8, "not UTF-8"),
        (_same_output_twice, "'y'"),
    )
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_models_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    make, words = INVALID[name]
    path = tmp_path / "bad.onnx"
    path.write_bytes(make().SerializeToString())
    with pytest.raises(ModelLoadError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert words in message
    assert "\n" not in message
