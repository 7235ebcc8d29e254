"""Every kind of model that people have on disk, through the command line and through Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
import torch
from torch import nn

import fuseonnx
from fuseonnx.frontends import ExportKeywords
from tests.helpers import run_reference

IMAGES = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float32)
"""As Keras wants them: batch, height, width, channels."""


@pytest.fixture(scope="module")
def keras_net() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    outputs = keras.layers.ReLU(name="features")(x)
    model = keras.Model(inputs, outputs)
    rng = np.random.default_rng(0)
    for weight in model.get_layer("norm").weights:
        weight.assign(rng.uniform(0.5, 2, weight.shape))
    return model


class Net(nn.Module):
    """The like in PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        for vector in (*self.norm.parameters(), self.norm.running_mean, self.norm.running_var):
            nn.init.uniform_(vector, 0.5, 2)  # type: ignore[arg-type]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.relu(self.norm(self.conv(image)))
        return result


def _frozen(model: keras.Model, path: Path) -> None:
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function = tf.function(model).get_concrete_function(tf.TensorSpec((None, 8, 8, 3), tf.float32, "image"))
    graph = convert_variables_to_constants_v2(function).graph
    path.write_bytes(graph.as_graph_def().SerializeToString())


def _module(path: Path) -> None:
    path.write_text(
        "import importlib.util as u\n"
        f"spec = u.spec_from_file_location('sources_net', {__file__!r})\n"
        "module = u.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "make = module.Net\n"
    )


MAKERS: dict[str, Callable[[Any, Path], object]] = {
    "net.keras": lambda model, path: model.save(path),
    "net.h5": lambda model, path: model.save(path),
    "saved": lambda model, path: model.export(path, verbose=False),
    "net.pb": _frozen,
    "net.tflite": lambda model, path: path.write_bytes(
        tf.lite.TFLiteConverter.from_keras_model(model).convert()
    ),
    "net.pt2": lambda _, path: torch.export.save(
        torch.export.export(Net().eval(), (torch.randn(2, 3, 8, 8),)), path
    ),
    "net.ts": lambda _, path: torch.jit.save(torch.jit.trace(Net().eval(), torch.randn(2, 3, 8, 8)), path),  # type: ignore[no-untyped-call]
    "net.pt": lambda _, path: torch.save(Net(), path),
    "nets_on_disk:make": lambda _, path: _module(path.with_name("nets_on_disk.py")),
}
OPTIONS = {
    "net.ts": ("--input", "2x3x8x8"),
    "net.pt": ("--input", "2x3x8x8", "--trust"),
    "nets_on_disk:make": ("--input", "2x3x8x8"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MAKERS)
def test_a_source(
    name: str, keras_net: keras.Model, tmp_path: Path, run_cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    MAKERS[name](keras_net, tmp_path / name)
    exported = run_cli("export", name, "-o", "exported.onnx", *OPTIONS.get(name, ()))
    assert exported.exit_code == 0, exported.output
    assert not exported.stderr
    optimized = run_cli("optimize", name, "-o", "optimized.onnx", "--json", *OPTIONS.get(name, ()))
    assert optimized.exit_code == 0, optimized.output
    report = json.loads(optimized.stdout)
    statuses = (
        report["export"]["parity"]["status"],
        report["parity"]["status"],
        report["verification"]["status"],
    )
    assert statuses == ("passed",) * 3 and not report["rolled_back"]
    is_keras = MAKERS[name].__code__.co_varnames[0] == "model"
    expected = keras_net.predict(IMAGES, verbose=0) if is_keras else _torch_answer()
    for file in ("exported.onnx", "optimized.onnx"):
        model = onnx.load(file)
        assert model.ir_version <= 10
        feed = IMAGES if is_keras else IMAGES.transpose(0, 3, 1, 2)
        (answer,) = run_reference(model, {model.graph.input[0].name: feed}).values()
        np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


def _torch_answer() -> np.ndarray:
    with torch.inference_mode():
        answer: np.ndarray = Net().eval()(torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).copy())).numpy()
    return answer


@pytest.mark.filterwarnings("ignore")
def test_live_objects(keras_net: keras.Model, tmp_path: Path) -> None:
    image = torch.randn(2, 3, 8, 8)
    function = tf.function(keras_net, input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32, "image")])
    live: list[tuple[Any, ExportKeywords]] = [
        (keras_net, {}),
        (function, {}),
        (Net(), {"inputs": image}),
        (torch.jit.trace(Net().eval(), image), {"inputs": image}),  # type: ignore[no-untyped-call]
        (torch.export.export(Net().eval(), (image,)), {}),
    ]
    for model, options in live:
        report = fuseonnx.export(model, tmp_path / "live.onnx", **options).report
        assert report.parity.status == "passed", report
        result = fuseonnx.optimize(model, **options)
        assert result.report.parity is not None and result.report.parity.status == "passed"
        assert isinstance(result.model, onnx.ModelProto)
