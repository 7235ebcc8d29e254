"""load and save: what nobody rewrites comes out as it went in."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fuseonnx.errors import ModelLoadError
from fuseonnx.io.load import load
from fuseonnx.io.save import write_draft
from tests.helpers import run_reference
from tests.io.models import FLOAT, add_model, every_place, every_place_feeds, info, model_of, weight


def round_trip(model: onnx.ModelProto, folder: Path, *, external_data: bool = False) -> onnx.ModelProto:
    source, target = folder / "source.onnx", folder / "target.onnx"
    source.write_bytes(model.SerializeToString())
    return copy_file(source, target, external_data=external_data)


def copy_file(source: Path, target: Path, *, external_data: bool = False) -> onnx.ModelProto:
    loaded = load(source)
    write_draft(loaded.model, loaded.signature, target, external_data=external_data).publish()
    return onnx.load(target)


def _props(*pairs: str) -> list[onnx.StringStringEntryProto]:
    return [onnx.StringStringEntryProto(key=key, value=f"value of {key}") for key in pairs]


def _annotated() -> onnx.ModelProto:
    """A model with every optional text and annotation set."""
    model = add_model(weight("w", 40, 40), ["batch", 40])
    model.producer_name, model.producer_version = "maker", "1.2"
    model.domain, model.model_version, model.doc_string = "org.example", 7, "a model"
    model.metadata_props.extend(_props("zeta", "alpha", "middle"))
    graph = model.graph
    graph.doc_string = "a graph"
    graph.metadata_props.extend(_props("g2", "g1"))
    graph.node[0].doc_string = "a node"
    graph.node[0].metadata_props.extend(_props("n2", "n1"))
    graph.node.add(op_type="Relu", input=["y"], output=["z"], name="relu")
    del graph.output[:]
    graph.output.extend([info("z", ["batch", 40])])
    graph.value_info.extend([info("y", ["batch", 40])])
    for value in (graph.input[0], graph.output[0], graph.value_info[0]):
        value.doc_string = f"about {value.name}"
        value.metadata_props.extend(_props(f"{value.name}2", f"{value.name}1"))
        value.type.denotation = "TENSOR"
        value.type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    graph.initializer[0].doc_string = "a weight"
    graph.initializer[0].metadata_props.extend(_props("w2", "w1"))
    for name in ("w", "y", "z", "x"):
        annotation = graph.quantization_annotation.add(tensor_name=name)
        annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=f"{name}_scale")
    return model


def _unordered(message: Any) -> Any:
    """Sort, in place, what is a map by meaning: metadata_props and quantization annotations."""
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        if descriptor.name in ("metadata_props", "quantization_annotation"):
            value.sort(key=lambda each: each.SerializeToString())
        for each in value if descriptor.is_repeated else [value]:
            _unordered(each)
    return message


def test_every_text_and_annotation_stays(tmp_path: Path) -> None:
    model = _annotated()
    assert _unordered(round_trip(model, tmp_path)) == _unordered(model)


def test_every_place_for_tensors(tmp_path: Path) -> None:
    model = every_place()
    after = round_trip(model, tmp_path)
    for flag in (True, False):
        feeds = every_place_feeds(flag)
        np.testing.assert_array_equal(run_reference(after, feeds)["y"], run_reference(model, feeds)["y"])
    for each in (model, after):
        each.graph.initializer[1].raw_data = b""
        del each.graph.initializer[1].float_data[:]
    assert after == model


def test_real_models_stay_as_they_are(real_models: dict[str, Path], tmp_path: Path) -> None:
    for name, path in real_models.items():
        model = onnx.load(path)
        after = copy_file(path, tmp_path / "copy.onnx")
        for field in ("ir_version", "producer_name", "producer_version", "metadata_props"):
            assert getattr(after, field) == getattr(model, field), (name, field)
        assert [(each.domain, each.version) for each in after.opset_import] == [
            (each.domain, each.version) for each in model.opset_import
        ], name
        assert [node.name for node in after.graph.node] == [node.name for node in model.graph.node], name
        for field in ("input", "output", "doc_string", "name"):
            assert getattr(after.graph, field) == getattr(model.graph, field), (name, field)
        assert _by_name(after.graph.value_info) == _by_name(model.graph.value_info), name
        assert [_comparable(node) for node in after.graph.node] == [
            _comparable(node) for node in model.graph.node
        ], name
        assert len(after.graph.initializer) == len(model.graph.initializer)
        for ours, theirs in zip(after.graph.initializer, model.graph.initializer, strict=True):
            assert ours.name == theirs.name
            assert numpy_helper.to_array(ours).tobytes() == numpy_helper.to_array(theirs).tobytes()


def _by_name(infos: Iterable[onnx.ValueInfoProto]) -> list[onnx.ValueInfoProto]:
    return sorted(infos, key=lambda each: each.name)


def _comparable(node: onnx.NodeProto) -> onnx.NodeProto:
    """A node with what says nothing removed, and its float tensors raw."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for attribute in copy.attribute:
        if attribute.t.data_type == FLOAT:
            attribute.t.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(attribute.t), attribute.t.name)
            )
        for inner in attribute.g.node:
            inner.CopyFrom(_comparable(inner))
        for output in attribute.g.output:
            if not output.type.WhichOneof("value"):
                output.ClearField("type")
        infos = _by_name(attribute.g.value_info)
        if infos:
            del attribute.g.value_info[:]
            attribute.g.value_info.extend(infos)
    if not copy.domain:
        copy.ClearField("domain")
    return copy


def test_loading_alone_adds_no_value_info(tmp_path: Path) -> None:
    model = every_place()
    assert not model.graph.value_info
    assert not round_trip(model, tmp_path).graph.value_info


def test_functions_stay(tmp_path: Path) -> None:
    model = every_place()
    function = model.functions[0]
    function.doc_string = "a function"
    function.metadata_props.extend(_props("f2", "f1"))
    function.value_info.extend([info("q", [40, 40])])
    function.attribute.append("unused")
    function.attribute_proto.append(helper.make_attribute("with_default", 3))
    function.overload = "first"
    model.graph.node[4].overload = "first"
    assert _unordered(round_trip(model, tmp_path).functions[0]) == _unordered(function)


def test_initializers_as_inputs_before_ir_4(tmp_path: Path) -> None:
    model = add_model(weight("w", 40, 40), [40, 40], ir_version=3)
    model.graph.input.insert(0, info("w", [40, 40]))
    after = round_trip(model, tmp_path)
    onnx.checker.check_model(after)
    assert sorted(value.name for value in after.graph.input) == ["w", "x"]
    session = onnxruntime.InferenceSession(after.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["x"]


def test_overridable_initializer_stays_an_input(tmp_path: Path) -> None:
    model = add_model(weight("w", 40, 40), [40, 40])
    model.graph.input.append(info("w", [40, 40]))
    assert round_trip(model, tmp_path) == model


def test_sparse_initializer(tmp_path: Path) -> None:
    values = numpy_helper.from_array(np.array([1.5, -2.0], np.float32), "w")
    indices = numpy_helper.from_array(np.array([1, 4], np.int64), "w_indices")
    model = add_model(weight("w", 6), [6])
    del model.graph.initializer[:]
    model.graph.sparse_initializer.extend([helper.make_sparse_tensor(values, indices, [6])])
    after = round_trip(model, tmp_path)
    assert after == model
    x = np.zeros(6, np.float32)
    assert run_reference(after, {"x": x})["y"].tolist() == [0, 1.5, 0, 0, -2, 0]


def _sparse_constant(name: str) -> onnx.NodeProto:
    values = numpy_helper.from_array(np.array([1.5, -2.0], np.float32))
    indices = numpy_helper.from_array(np.array([1, 4], np.int64))
    sparse = helper.make_sparse_tensor(values, indices, [6])
    return helper.make_node("Constant", [], [name], sparse_value=sparse)


def test_a_sparse_constant_becomes_a_sparse_initializer(tmp_path: Path) -> None:
    model = add_model(weight("w", 6), [6])
    del model.graph.initializer[:]
    model.graph.node.insert(0, _sparse_constant("w"))
    onnx.checker.check_model(model)
    after = round_trip(model, tmp_path)
    onnx.checker.check_model(after)
    assert [tensor.values.name for tensor in after.graph.sparse_initializer] == ["w"]
    assert "Constant" not in [node.op_type for node in after.graph.node]
    x = {"x": np.arange(6, dtype=np.float32)}
    assert run_reference(after, x)["y"].tolist() == run_reference(model, x)["y"].tolist()


def test_a_sparse_constant_in_a_body_is_refused_in_one_line(tmp_path: Path) -> None:
    body = helper.make_graph([_sparse_constant("c")], "body", [], [info("c", [6])])
    branches = {"then_branch": body, "else_branch": body}
    nodes = [helper.make_node("If", ["flag"], ["y"], name="choice", **branches)]
    model = model_of(helper.make_graph(nodes, "g", [info("flag", [], TensorProto.BOOL)], [info("y", [6])]))
    with pytest.raises(ModelLoadError, match=r"sparse tensor.*make it dense") as caught:
        round_trip(model, tmp_path)
    assert "\n" not in str(caught.value)


def test_sequence_and_optional_outputs(tmp_path: Path) -> None:
    tensor = helper.make_tensor_type_proto(FLOAT, ["n"])
    outputs = [
        helper.make_value_info("s", helper.make_sequence_type_proto(tensor)),
        helper.make_value_info("o", helper.make_optional_type_proto(tensor)),
    ]
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["s"]),
        helper.make_node("Optional", ["x"], ["o"]),
    ]
    model = model_of(helper.make_graph(nodes, "g", [info("x", ["n"])], outputs))
    assert round_trip(model, tmp_path) == model


def test_map_output_of_zip_map(tmp_path: Path) -> None:
    """A classifier as scikit-learn's converters write it: a label, and a sequence of maps."""
    floats = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(FLOAT, []))
    outputs = [
        info("label", [None], TensorProto.INT64),
        helper.make_value_info("scores", helper.make_sequence_type_proto(floats)),
    ]
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["x"],
            ["label", "raw"],
            domain="ai.onnx.ml",
            coefficients=[0.5, -1.0, -0.5, 1.0],
            intercepts=[0.25, -0.25],
            classlabels_ints=[3, 8],
            post_transform="SOFTMAX",
        ),
        helper.make_node("ZipMap", ["raw"], ["scores"], domain="ai.onnx.ml", classlabels_int64s=[3, 8]),
    ]
    graph = helper.make_graph(nodes, "g", [info("x", [None, 2])], outputs)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    after = round_trip(model, tmp_path)
    assert after == model
    x = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    session = onnxruntime.InferenceSession(after.SerializeToString(), providers=["CPUExecutionProvider"])
    before = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(["scores"], {"x": x}) == before.run(["scores"], {"x": x})


@pytest.mark.parametrize("size", [3, 9000])
@pytest.mark.parametrize(
    "dtype",
    [
        "INT4", "UINT4", "FLOAT8E4M3FN", "FLOAT8E5M2", "BFLOAT16", "FLOAT16", "FLOAT4E2M1",
        "COMPLEX64", "BOOL", "INT16", "DOUBLE", "UINT64",
    ],
)  # fmt: skip
def test_tensors_of_every_type(dtype: str, size: int, tmp_path: Path) -> None:
    kind = TensorProto.DataType.Value(dtype)
    array = np.random.default_rng(2).integers(0, 2, size).astype(helper.tensor_dtype_to_np_dtype(kind))
    model = model_of(
        helper.make_graph(
            [helper.make_node("Identity", ["w"], ["y"])],
            "g",
            [],
            [info("y", [size], kind)],
            [numpy_helper.from_array(array, "w")],
        ),
        opset=23,
        ir_version=11,
    )
    for external_data in (False, True):
        after = round_trip(model, tmp_path, external_data=external_data)
        found = numpy_helper.to_array(after.graph.initializer[0])
        assert (found.dtype, found.tobytes()) == (array.dtype, array.tobytes())


def test_typed_data_fields(tmp_path: Path) -> None:
    """Elements in int32_data and uint64_data, 16-bit floats as numbers: onnx's other way of storing."""
    halves = np.random.default_rng(3).normal(size=9000).astype(np.float16)
    brains = halves.astype(ml_dtypes.bfloat16)
    tensors = [
        onnx.TensorProto(name="h", data_type=10, dims=[9000], int32_data=halves.view(np.uint16)),
        onnx.TensorProto(name="b", data_type=16, dims=[9000], int32_data=brains.view(np.uint16)),
        helper.make_tensor("u", TensorProto.UINT32, [9000], range(9000)),
        helper.make_tensor("i", TensorProto.INT64, [9000], range(9000)),
    ]
    nodes = [helper.make_node("Identity", [each.name], [f"{each.name}_y"]) for each in tensors]
    outputs = [info(f"{each.name}_y", [9000], each.data_type) for each in tensors]
    model = model_of(helper.make_graph(nodes, "g", [], outputs, tensors))
    for external_data in (False, True):
        after = round_trip(model, tmp_path, external_data=external_data)
        for ours, theirs in zip(after.graph.initializer, tensors, strict=True):
            assert numpy_helper.to_array(ours).tobytes() == numpy_helper.to_array(theirs).tobytes(), ours.name


def test_string_tensors(tmp_path: Path) -> None:
    words = np.array([f"text {i} é" for i in range(2000)], dtype=object)
    texts = numpy_helper.from_array(words, "w")
    graph = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["y"])],
        "g",
        [],
        [info("y", [2000], TensorProto.STRING)],
        [texts],
    )
    model = model_of(graph)
    for external_data in (False, True):
        assert round_trip(model, tmp_path, external_data=external_data) == model


def test_lists_of_tensors_in_an_attribute(tmp_path: Path) -> None:
    node = helper.make_node("Mystery", ["x"], ["y"], domain="custom")
    node.attribute.append(helper.make_attribute("tables", [weight("a", 50, 50), weight("b", 3)]))
    graph = helper.make_graph([node], "g", [info("x", [3])], [info("y", [3])])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("custom", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    assert round_trip(model, tmp_path) == model


def test_device_configurations(tmp_path: Path) -> None:
    model = add_model(weight("w", 3), [3], ir_version=11)
    model.configuration.add(name="two", num_devices=2, device=["a", "b"])
    model.graph.node[0].device_configurations.add(configuration_id="two", pipeline_stage=1)
    assert round_trip(model, tmp_path) == model


def test_zero_sized_scalar_and_empty_tensors(tmp_path: Path) -> None:
    tensors = [
        numpy_helper.from_array(np.zeros((0, 3), np.float32), "empty"),
        numpy_helper.from_array(np.array(2.5, np.float32), "scalar"),
    ]
    nodes = [helper.make_node("Identity", [each.name], [f"{each.name}_y"]) for each in tensors]
    model = model_of(
        helper.make_graph(nodes, "g", [], [info("empty_y", [0, 3]), info("scalar_y", [])], tensors)
    )
    assert round_trip(model, tmp_path) == model


def test_unsorted_graph_is_sorted(tmp_path: Path) -> None:
    model = every_place()
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    after = round_trip(model, tmp_path)
    onnx.checker.check_model(after)
    np.testing.assert_array_equal(
        run_reference(after, every_place_feeds(True))["y"],
        run_reference(every_place(), every_place_feeds(True))["y"],
    )
