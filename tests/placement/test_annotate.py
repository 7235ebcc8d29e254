"""What is written into models, and what is left as it was."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from fuseonnx.analysis import shapes
from fuseonnx.placement.annotate import (
    LAYER_ANNOTATION,
    PROVIDER_KEY,
    SETTINGS,
    SETTINGS_KEY,
    annotate,
    annotated_devices,
    write_standard,
)
from fuseonnx.placement.assign import Device
from fuseonnx.placement.graph import read_graph

CUDA = "CUDAExecutionProvider"
CHAIN = """chain (float[2, 3] x) => (float[2, 3] z) {
  two = Constant <value = float {2.0}> ()
  y = Relu (x)
  z = Mul (y, two)
}"""
BRANCHES = """branches (float[2] x, bool condition) => (float[2] y) {
  y = If (condition) <
    then_branch = yes () => (float[2] a) { a = Neg (x) },
    else_branch = no () => (float[2] b) { c = Abs (x) b = Relu (c) }
  >
}"""


def read(text: str, ir_version: int = 10) -> ir.Model:
    proto = parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["" : 17]>\n{text}')
    model = ir.from_proto(proto)
    shapes.annotate(model)
    return model


def written(model: ir.Model, *devices: Device) -> int:
    return annotate(model, read_graph(model), devices, CUDA)


def noted(graph: ir.Graph) -> list[str | None]:
    return [node.metadata_props.get(LAYER_ANNOTATION) for node in graph]


def test_nodes_that_run_are_annotated() -> None:
    model = read(CHAIN)
    assert written(model, "gpu", "gpu", "cpu") == 0
    assert noted(model.graph) == [None, "G", "C"]
    assert model.metadata_props == {SETTINGS_KEY: SETTINGS, PROVIDER_KEY: CUDA}


def test_settings_are_what_onnxruntime_parses() -> None:
    """onnxruntime raises if it cannot parse them; a rule without `=` would be for a prefix."""
    import onnxruntime as ort

    assert SETTINGS == "gpu(=G);CPUExecutionProvider(=C)"
    model = read(CHAIN)
    written(model, "gpu", "gpu", "cpu")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.layer_assignment_settings", SETTINGS)
    data = ir.to_proto(model).SerializeToString()
    ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    options.add_session_config_entry("session.layer_assignment_settings", SETTINGS.replace(")", ""))
    with pytest.raises(Exception, match="Missing '\\)'"):
        ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def test_an_annotation_of_the_user_s_is_replaced_and_counted() -> None:
    model = read(CHAIN)
    for node in model.graph:
        node.metadata_props.update({LAYER_ANNOTATION: "mine", "other": "kept"})
    assert written(model, "gpu", "gpu", "cpu") == 2
    assert noted(model.graph) == ["mine", "G", "C"]
    assert {node.metadata_props["other"] for node in model.graph} == {"kept"}
    assert written(model, "gpu", "cpu", "gpu") == 0
    assert noted(model.graph) == ["mine", "C", "G"]


def test_bodies_inherit() -> None:
    model = read(BRANCHES)
    (node,) = model.graph
    yes = node.attributes["then_branch"].as_graph()
    yes[0].metadata_props[LAYER_ANNOTATION] = "mine"
    assert written(model, "gpu") == 1
    assert noted(model.graph) == ["G"]
    assert noted(yes) == [None]


def test_devices_by_their_names_in_the_settings() -> None:
    model = read(CHAIN)
    assert annotated_devices(model) == {}
    written(model, "gpu", "gpu", "cpu")
    model.graph[0].metadata_props[LAYER_ANNOTATION] = "mine"
    assert annotated_devices(model) == {"mine": 1, "gpu": 1, "CPUExecutionProvider": 1}


@pytest.mark.parametrize(("before", "after"), [(8, 11), (11, 11), (12, 12)])
def test_standard_fields(before: int, after: int) -> None:
    model = read(CHAIN, before)
    graph = read_graph(model)
    for devices in (("gpu", "gpu", "cpu"), ("gpu", "cpu", "gpu")):  # the second time replaces the first
        write_standard(model, graph, devices, CUDA)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    assert proto.ir_version == after
    assert [(each.name, each.num_devices, list(each.device)) for each in proto.configuration] == [
        ("fuseonnx", 2, ["CPU", "CUDA"])
    ]
    placed = [
        (node.op_type, each.configuration_id, spec.tensor_name, list(spec.device))
        for node in proto.graph.node
        for each in node.device_configurations
        for spec in each.sharding_spec
    ]
    assert placed == [("Relu", "fuseonnx", "y", [0]), ("Mul", "fuseonnx", "z", [1])]


def test_standard_fields_reach_into_bodies_and_leave_other_configurations() -> None:
    model = read(BRANCHES, 11)
    theirs = model.add_device_configuration("theirs", num_devices=3)
    model.graph[0].set_pipeline_stage(theirs, 2)
    write_standard(model, read_graph(model), ("cpu",), CUDA)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    assert [each.name for each in proto.configuration] == ["theirs", "fuseonnx"]
    (node,) = proto.graph.node
    assert [each.configuration_id for each in node.device_configurations] == ["theirs", "fuseonnx"]
    inner = [each for attribute in node.attribute for each in attribute.g.node]
    assert {each.device_configurations[0].sharding_spec[0].tensor_name for each in inner} == {"a", "b", "c"}
