"""`fuseonnx inspect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper


def test_json_of_a_conv_chain(tmp_path: Path, run_cli: Any, write_model: Any, snapshot: Any) -> None:
    model = write_model(tmp_path / "model.onnx", blocks=2, channels=4, batch="N")
    before = snapshot(tmp_path)
    result = run_cli("inspect", model, "--json")
    assert result.exit_code == 0, result.output
    assert snapshot(tmp_path) == before
    shown = json.loads(result.stdout)
    assert shown["opsets"] == {"ai.onnx": 17}
    assert shown["ir_version"] == 10
    assert shown["sha256"] == before["model.onnx"]
    port = {"type": "float32", "shape": ["N", 4, 8, 8], "optional": False}
    assert shown["inputs"] == [{"name": "x", **port}]
    assert shown["outputs"] == [{"name": "y", **port}]
    assert shown["stats"]["ops"] == {"BatchNormalization": 2, "Conv": 2, "Relu": 2}
    assert shown["stats"]["parameters"] == 2 * (4 * 4 * 9 + 4 * 4)
    assert shown["stats"]["file_bytes"] == model.stat().st_size
    # Conv: 2 * (4 * 8 * 8 outputs) * (4 * 9 taps); BatchNormalization and Relu: one per element.
    assert shown["cost"]["flops"] == 2 * (2 * 256 * 36 + 256 + 256)
    assert shown["cost"]["assumed"] == {"x": [1, 4, 8, 8]}
    weight = {"dtype": "float32", "shape": [4, 4, 3, 3], "nbytes": 576}
    assert shown["biggest_weights"][:2] == [{"name": "w0", **weight}, {"name": "w1", **weight}]
    fired = {use["name"]: use["fired"] for use in shown["rewrites"]}
    assert fired["fold_batchnorm_into_conv"] == 2


def test_input_shape_scales_the_cost(tmp_path: Path, run_cli: Any, write_model: Any) -> None:
    model = write_model(tmp_path / "model.onnx", batch="N")
    one = json.loads(run_cli("inspect", model, "--json").stdout)["cost"]
    five = json.loads(run_cli("inspect", model, "--input-shape", "x=5,4,8,8", "--json").stdout)["cost"]
    assert five["flops"] == 5 * one["flops"]
    assert five["assumed"] == {}


def test_table(tmp_path: Path, run_cli: Any, write_model: Any) -> None:
    result = run_cli("inspect", write_model(tmp_path / "model.onnx", batch="N"))
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["x", "float32", "[N,", "4,", "8,", "8]"] in lines
    assert ["BatchNormalization", "2"] in lines
    assert ["fold_batchnorm_into_conv", "2"] in lines
    assert "x is counted as [1, 4, 8, 8]" in result.stdout


def test_ports_that_are_not_plain_tensors(tmp_path: Path, run_cli: Any) -> None:
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT16, None)
    graph = helper.make_graph(
        [helper.make_node("SequenceAt", ["s", "i"], ["y"])],
        "g",
        [
            helper.make_value_info("s", helper.make_sequence_type_proto(tensor)),
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
        ],
        [helper.make_value_info("y", tensor)],
        [helper.make_tensor("i", TensorProto.INT64, [], [0])],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
    helper.set_model_props(model, {"author": "[bold]me[/bold]"})
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    shown = json.loads(run_cli("inspect", path, "--json").stdout)
    assert shown["inputs"] == [
        {"name": "s", "type": "sequence(float16)", "shape": None, "optional": False},
        {"name": "i", "type": "int64", "shape": [], "optional": True},
    ]
    assert shown["outputs"] == [{"name": "y", "type": "float16", "shape": None, "optional": False}]
    assert "[bold]me[/bold]" in run_cli("inspect", path).stdout
