"""TFLite files, float and quantized, against the TFLite interpreter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from fuseonnx.errors import ExportError, OptionError
from fuseonnx.frontends._quiet import quiet, quiet_first_import
from fuseonnx.frontends.conversion import Conversion
from fuseonnx.frontends.options import ExportOptions, InputSpec
from fuseonnx.frontends.tensorflow import convert_tflite

with quiet_first_import():
    import keras
    import tensorflow as tf

Array = np.ndarray[Any, np.dtype[Any]]
_RNG = np.random.default_rng(11)
_SHAPE = (16, 16, 3)


def _normal(*shape: int) -> Array:
    return _RNG.standard_normal(shape).astype(np.float32)


def _silent(_: str) -> None:
    pass


def _run(conversion: Conversion, feeds: dict[str, Array]) -> list[Array]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(conversion.path, options, providers=["CPUExecutionProvider"])
    results: list[Array] = session.run(None, feeds)
    return results


def _operators(conversion: Conversion) -> set[str]:
    return {node.op_type for node in onnx.load(conversion.path).graph.node}


def _dims(conversion: Conversion) -> list[int | str]:
    value = onnx.load(conversion.path).graph.input[0]
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _net() -> Any:
    """A small image classifier with two outputs, wide enough for weights to be quantized."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = layers.Input(_SHAPE, name="image")
    x = image
    for filters in (16, 32):
        x = layers.Conv2D(filters, 3, 2, padding="same", use_bias=False)(x)
        x = layers.ReLU(6)(layers.BatchNormalization()(x))
        deep = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(x))
        x = layers.Add()([x, deep])
    x = layers.Dense(64, activation="tanh")(layers.GlobalAveragePooling2D()(x))
    logits = layers.Dense(10)(x)
    model = keras.Model(image, [layers.Softmax()(logits), logits])
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            gamma, beta, mean, _ = layer.get_weights()
            positive = [_RNG.uniform(0.5, 1.5, gamma.shape) for _ in range(2)]
            layer.set_weights([positive[0], _normal(*beta.shape), _normal(*mean.shape), positive[1]])
    return model


def _samples() -> Iterator[list[Array]]:
    for _ in range(30):
        yield [_normal(1, *_SHAPE)]


def _to_tflite(model: Any, kind: str) -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind.startswith("int8"):
        converter.representative_dataset = _samples
    if kind == "int8_ports":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    with quiet():
        content: bytes = converter.convert()
    return content


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the net as a TFLite file of a kind, made once."""
    model, folder = _net(), tmp_path_factory.mktemp("tflite")

    def file(kind: str) -> Path:
        path = folder / f"{kind}.tflite"
        if not path.exists():
            path.write_bytes(_to_tflite(model, kind))
        return path

    return file


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_float_models_agree(model_file: Callable[[str], Path], tmp_path: Path, kind: str) -> None:
    conversion = convert_tflite(model_file(kind), tmp_path, ExportOptions(), _silent)
    graph = onnx.load(conversion.path).graph
    assert [value.name for value in graph.input] == ["image"]
    assert sorted(value.name for value in graph.output) == ["output_0", "output_1"]
    assert _dims(conversion) == ["batch", *_SHAPE]
    assert onnx.load(conversion.path).ir_version <= 10
    assert not conversion.notes
    for batch in (1, 5):
        feeds = {"image": _normal(batch, *_SHAPE)}
        for result, truth in zip(_run(conversion, feeds), conversion.answers(feeds), strict=True):
            np.testing.assert_allclose(result, truth, rtol=1e-5, atol=1e-5)
            assert truth.shape == (batch, 10)


def test_int8_weights_alone_leave_activations_in_float(
    model_file: Callable[[str], Path], tmp_path: Path
) -> None:
    conversion = convert_tflite(model_file("dynamic_range"), tmp_path, ExportOptions(), _silent)
    assert "DequantizeLinear" in _operators(conversion)
    assert "DynamicQuantizeLinear" not in _operators(conversion)
    (note,) = conversion.notes
    assert note.startswith("TFLite rounds activations to int8 on the fly")
    feeds = {"image": _normal(6, *_SHAPE)}
    together = _run(conversion, feeds)
    for result, truth in zip(together, conversion.answers(feeds), strict=True):
        assert 0 < np.abs(result - truth).max() < 0.02 * np.abs(truth).max()
    alone = _run(conversion, {"image": feeds["image"][:1]})
    for result, first in zip(together, alone, strict=True):
        np.testing.assert_allclose(result[:1], first, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["int8", "int8_ports"])
def test_int8_models_agree_within_one_step(
    model_file: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    conversion = convert_tflite(model_file(kind), tmp_path, ExportOptions(), _silent)
    assert {"QuantizeLinear", "DequantizeLinear"} <= _operators(conversion)
    assert not conversion.notes
    image = _normal(6, *_SHAPE)
    step = np.array([1 / 256, 0.05])  # of the softmax, fixed by TFLite, and more than that of the logits
    if kind == "int8_ports":
        image, step = np.clip(np.round(image * 30), -128, 127).astype(np.int8), np.array([1.0, 1.0])
    results, answers = _run(conversion, {"image": image}), conversion.answers({"image": image})
    names = [value.name for value in onnx.load(conversion.path).graph.output]
    for name, result, truth in zip(names, results, answers, strict=True):
        assert result.dtype == truth.dtype
        difference = np.abs(result.astype(np.float32) - truth.astype(np.float32))
        assert difference.max() <= step[int(name[-1])] * 1.001
        assert np.std(truth.astype(np.float32), axis=0).max() > 0


def test_options_change_names_and_fix_the_batch(model_file: Callable[[str], Path], tmp_path: Path) -> None:
    options = ExportOptions(batch=2, input_names=["x"], output_names=["a", "b"], opset=13)
    conversion = convert_tflite(model_file("float32"), tmp_path, options, _silent)
    model = onnx.load(conversion.path)
    assert [value.name for value in [*model.graph.input, *model.graph.output]] == ["x", "a", "b"]
    assert _dims(conversion) == [2, *_SHAPE]
    assert model.opset_import[0].version == 13
    feeds = {"x": _normal(2, *_SHAPE)}
    for result, truth in zip(_run(conversion, feeds), conversion.answers(feeds), strict=True):
        np.testing.assert_allclose(result, truth, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ExportOptions(inputs=InputSpec((1, 8, 8, 3))), "axis 1 of input 'image' is 16 in the model"),
        (ExportOptions(dynamic={"picture": {0: "n"}}), "no input 'picture'; the inputs are image"),
        (ExportOptions(opset=30), "opset 30: tf2onnx writes 9 to 18"),
        (ExportOptions(output_names=["a"]), "1 output names are given, the model has 2 outputs"),
    ],
)
def test_wrong_options(
    model_file: Callable[[str], Path], tmp_path: Path, options: ExportOptions, message: str
) -> None:
    with pytest.raises(OptionError) as caught:
        convert_tflite(model_file("float32"), tmp_path, options, _silent)
    assert str(caught.value).startswith(message)


def test_other_files_are_refused(model_file: Callable[[str], Path], tmp_path: Path) -> None:
    file = tmp_path / "model.tflite"
    file.write_bytes(b"ONNX or whatever")
    with pytest.raises(ExportError, match=r"^is not a TFLite file; convert the model with"):
        convert_tflite(file, tmp_path, ExportOptions(), _silent)
    content = model_file("float32").read_bytes()
    for size in (10, 200, len(content) // 2, len(content) - 100):
        file.write_bytes(content[:size])
        with pytest.raises(ExportError, match=r"^TFLite cannot load it; is it truncated\?"):
            convert_tflite(file, tmp_path, ExportOptions(), _silent)


def _function_file(path: Path, function: Callable[[Any], Any], *, flex: bool) -> Path:
    spec = tf.TensorSpec([2, 3, 3], tf.float32, name="x")
    module = tf.Module()
    module.call = tf.function(function, input_signature=[spec])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.call.get_concrete_function()], module)
    converter.allow_custom_ops = not flex
    if flex:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    with quiet():
        path.write_bytes(converter.convert())
    return path


@pytest.mark.parametrize(
    ("function", "flex", "operator"),
    [(tf.math.bessel_i0, False, "BesselI0"), (tf.linalg.det, True, "MatrixDeterminant")],
    ids=["custom", "flex"],
)
def test_a_foreign_operator_is_named(
    tmp_path: Path, function: Callable[[Any], Any], flex: bool, operator: str
) -> None:
    file = _function_file(tmp_path / "model.tflite", function, flex=flex)
    with pytest.raises(
        ExportError, match=rf"^its operator {operator} is none of TFLite's own and cannot run"
    ):
        convert_tflite(file, tmp_path, ExportOptions(), _silent)
