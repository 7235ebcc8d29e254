"""Keras models of every kind become ONNX files that answer as Keras does; what cannot be is one line."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import fuseonnx
from fuseonnx.errors import ExportError, OptionError
from fuseonnx.frontends._quiet import quiet, quiet_first_import
from fuseonnx.frontends.conversion import Conversion
from fuseonnx.frontends.keras import convert_keras, is_keras_model, load_keras
from fuseonnx.frontends.options import ExportOptions, InputSpec
from tests.helpers import run_reference

with quiet_first_import():
    import keras
    from keras import layers

ROOT = Path(__file__).parents[2]
VECTOR = np.ones((3, 4), np.float32)


@pytest.fixture(autouse=True)
def _the_same_weights_every_time() -> None:
    keras.utils.set_random_seed(0)


def converted(model: Any, folder: Path, options: ExportOptions | None = None) -> Conversion:
    return convert_keras(model, folder, options or ExportOptions(), lambda _: None)


def dims(values: Any) -> dict[str, list[str | int]]:
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


def feeds_of(model: onnx.ModelProto, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    feeds = {}
    for value in model.graph.input:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        shape = [sizes[dim] if isinstance(dim, str) else dim for dim in dims([value])[value.name]]
        array = 2 * rng.standard_normal(shape) if dtype.kind == "f" else rng.integers(0, 4, shape)
        feeds[value.name] = array.astype(dtype)
    return feeds


def check(
    model: Any, folder: Path, options: ExportOptions | None = None, tol: float = 1e-5
) -> onnx.ModelProto:
    """Convert, and compare with the model itself at two sizes of every dynamic dimension."""
    for variable in model.variables if model.built else ():
        if variable.path.endswith(("gamma", "beta", "moving_mean", "moving_variance")):
            variable.assign(np.random.default_rng(0).uniform(0.5, 1.5, variable.shape))
    conversion = converted(model, folder, options)
    proto = onnx.load(conversion.path)
    for batch, size in ((1, 8), (3, 11)):
        symbols = {
            dim: size for each in dims(proto.graph.input).values() for dim in each if isinstance(dim, str)
        }
        feeds = feeds_of(proto, {**symbols, "batch": batch})
        expected, found = conversion.answers(feeds), run_reference(proto, feeds)
        assert len(expected) == len(found)
        for ours, theirs in zip(found.values(), expected, strict=True):
            assert ours.shape == theirs.shape
            assert ours.dtype == theirs.dtype
            np.testing.assert_allclose(ours, theirs, rtol=tol, atol=tol * np.abs(theirs).max(initial=1e-3))
    return proto


def chain(shape: tuple[int | None, ...], *steps: Any, **options: Any) -> Any:
    tensor = image = layers.Input(shape, name="x", **options)
    for step in steps:
        tensor = step(tensor)
    return keras.Model(image, tensor)


def attention() -> Any:
    x = layers.Input((6, 8), name="x")
    return keras.Model(x, layers.MultiHeadAttention(2, 4)(x, x) - layers.Attention()([x, x]))


CONV_FIRST = {"data_format": "channels_first"}
NETS: dict[str, Callable[[], Any]] = {
    "preprocessing": lambda: chain(
        (16, 16, 3),
        layers.RandomFlip(),
        layers.RandomRotation(0.2),
        layers.CenterCrop(12, 12),
        layers.Resizing(9, 9),
        layers.Rescaling(1 / 3, -1),
        layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[2.0, 1.0, 0.5]),
    ),
    "discretization": lambda: chain((3,), layers.Discretization([-1.0, 0.0, 1.0])),
    "training-only": lambda: chain(
        (4,), layers.Dropout(0.5), layers.GaussianNoise(1.0), layers.BatchNormalization()
    ),
    "lstm": lambda: chain((7, 5), layers.LSTM(6, return_sequences=True), layers.GRU(4)),
    "lstm-any-length": lambda: chain((None, 5), layers.LSTM(6, return_sequences=True), layers.SimpleRNN(4)),
    "bidirectional": lambda: chain((7, 5), layers.Bidirectional(layers.GRU(3, return_sequences=True))),
    "masking": lambda: chain((7,), layers.Embedding(5, 6, mask_zero=True), layers.LSTM(4), dtype="int32"),
    "attention": attention,
    "separable": lambda: chain(
        (16, 16, 3),
        layers.SeparableConv2D(5, 3, 2, padding="same"),
        layers.BatchNormalization(),
        layers.DepthwiseConv2D(3, depth_multiplier=2),
        layers.PReLU(),
        layers.GlobalAveragePooling2D(),
    ),
    "conv1d": lambda: chain(
        (16, 3), layers.Conv1D(4, 3, padding="causal"), layers.MaxPooling1D(), layers.Conv1DTranspose(2, 3, 2)
    ),
    "conv3d": lambda: chain(
        (6, 6, 6, 4), layers.Conv3D(4, 3, 2, padding="same"), layers.Conv3D(6, 2, groups=2)
    ),
    "grouped": lambda: chain(
        (9, 9, 4), layers.Conv2D(8, 3, groups=2), layers.Conv2D(8, 3, groups=4, strides=2)
    ),
    "transposed": lambda: chain(
        (5, 5, 3),
        layers.Conv2DTranspose(4, 3, 2, padding="same"),
        layers.Conv2DTranspose(2, 4, 3, output_padding=1),
    ),
    "upsampling": lambda: chain(
        (5, 6, 3), layers.UpSampling2D(2, interpolation="bilinear"), layers.UpSampling2D(3)
    ),
    "normalizations": lambda: chain((8, 8, 6), layers.GroupNormalization(3), layers.LayerNormalization()),
    "channels-first": lambda: chain(
        (3, 16, 16),
        layers.Conv2D(4, 3, padding="same", **CONV_FIRST),
        layers.BatchNormalization(axis=1),
        layers.MaxPooling2D(2, **CONV_FIRST),
        layers.DepthwiseConv2D(3, **CONV_FIRST),
    ),
    "any-size": lambda: chain(
        (None, None, 3),
        layers.Conv2D(4, 3, 2, padding="same"),
        layers.BatchNormalization(),
        layers.Activation("gelu"),
    ),
    "nested": lambda: keras.Sequential(
        [layers.Input((8,)), chain((8,), layers.Dense(6), layers.BatchNormalization()), layers.Dense(2)]
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_layers(name: str, tmp_path: Path) -> None:
    check(NETS[name](), tmp_path)


def test_mixed_precision(tmp_path: Path) -> None:
    x = layers.Input((16, 16, 3), name="x")
    y = layers.Conv2D(4, 3, dtype="mixed_float16")(x)
    y = layers.GlobalAveragePooling2D(dtype="mixed_float16")(y)
    model = keras.Model(x, [layers.Dense(3, dtype="mixed_float16")(y), layers.Dense(3, dtype="float32")(y)])
    proto = check(model, tmp_path, tol=5e-3)
    elements = [value.type.tensor_type.elem_type for value in proto.graph.output]
    assert elements == [onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT]


class Pair(keras.Model):  # type: ignore[misc]
    """Two arguments; a dict with a list in it comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.norm = layers.Dense(3), layers.BatchNormalization()

    def call(self, left: Any, right: Any, training: bool = False) -> Any:
        return {
            "sum": self.norm(self.dense(left) + right[:, :3], training=training),
            "both": [left * 2, right],
        }


class Listed(keras.Model):  # type: ignore[misc]
    """One argument, a list."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, pair: Any) -> Any:
        return self.dense(pair[0]) - pair[1][:, :3]


class Keyed(keras.Model):  # type: ignore[misc]
    """One argument, a dict; a tuple comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs["v"]) - inputs["u"][:, :3], inputs["v"]


def called(model: Any, *inputs: Any) -> Any:
    model(*inputs)
    return model


def functional() -> Any:
    a, b = layers.Input((4,), name="a"), layers.Input((4,), name="b")
    dense = layers.Dense(3, name="dense")
    return keras.Model([a, b], [dense(a), dense(b), layers.Concatenate(name="joined")([a, b])])


def unchanged() -> Any:
    x = layers.Input((4,), name="x")
    return keras.Model(x, [x, x])


def keyed() -> Any:
    a, b = layers.Input((4,), name="a"), layers.Input((4,), name="b")
    return keras.Model({"b": b, "a": a}, {"z": layers.Dense(2)(a), "a": layers.Dense(3)(b)})


SIGNATURES: dict[str, tuple[Callable[[], Any], Any, list[str], list[str]]] = {
    "functional": (functional, None, ["a", "b"], ["dense", "dense_1", "joined"]),
    "functional-dict": (keyed, None, ["a", "b"], ["a_1", "z"]),
    "input-is-output": (
        unchanged,
        None,
        ["x"],
        ["x_1", "x_2"],
    ),
    "list": (lambda: called(Listed(), [VECTOR, VECTOR]), None, ["pair_0", "pair_1"], ["output"]),
    "list-uncalled": (Listed, (VECTOR, VECTOR), ["pair_0", "pair_1"], ["output"]),
    "dict": (lambda: called(Keyed(), {"v": VECTOR, "u": VECTOR}), None, ["u", "v"], ["output_0", "output_1"]),
    "dict-uncalled": (Keyed, {"v": VECTOR, "u": VECTOR}, ["u", "v"], ["output_0", "output_1"]),
    "arguments": (Pair, (VECTOR, VECTOR), ["left", "right"], ["both_0", "both_1", "sum"]),
    "named-arguments": (
        Pair,
        (InputSpec((1, 4), name="right"), InputSpec((1, 4), name="left")),
        ["left", "right"],
        ["both_0", "both_1", "sum"],
    ),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_inputs_and_outputs(name: str, tmp_path: Path) -> None:
    make, inputs, input_names, output_names = SIGNATURES[name]
    proto = check(make(), tmp_path, ExportOptions(inputs=inputs))
    assert [value.name for value in proto.graph.input] == input_names
    assert [value.name for value in proto.graph.output] == output_names
    assert {shape[0] for shape in dims([*proto.graph.input, *proto.graph.output]).values()} == {"batch"}


def test_names_as_asked_for(tmp_path: Path) -> None:
    options = ExportOptions(input_names=["left", "right"], output_names=["p", "q", "r"])
    proto = check(functional(), tmp_path, options)
    assert [value.name for value in proto.graph.input] == ["left", "right"]
    assert [value.name for value in proto.graph.output] == ["p", "q", "r"]


def image_net() -> Any:
    return chain((32, 32, 3), layers.Conv2D(4, 3, 2), layers.GlobalAveragePooling2D(), layers.Dense(2))


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        (ExportOptions(), ["batch", 32, 32, 3]),
        (ExportOptions(batch="dynamic"), ["batch", 32, 32, 3]),
        (ExportOptions(batch=3), [3, 32, 32, 3]),
        (ExportOptions(dynamic={"x": {1: "height", 2: "width"}}), ["batch", "height", "width", 3]),
    ],
)
def test_dimensions(options: ExportOptions, shape: list[str | int], tmp_path: Path) -> None:
    proto = check(image_net(), tmp_path, options)
    assert dims(proto.graph.input) == {"x": shape}
    assert list(dims(proto.graph.output).values()) == [[shape[0], 2]]


def test_examples_fix_what_the_model_leaves_open(tmp_path: Path) -> None:
    model = chain((None, None, 3), layers.Conv2D(4, 3))
    options = ExportOptions(inputs=np.ones((1, 10, 12, 3), np.float32))
    proto = check(model, tmp_path, options)
    assert list(dims(proto.graph.output).values()) == [["batch", 8, 10, 4]]


def test_a_sequential_model_without_input_layer(tmp_path: Path) -> None:
    model = keras.Sequential([layers.Dense(3), layers.Dense(2, name="last")])
    with pytest.raises(
        ExportError, match=r"was never called, .* call it once on an example, or give one: --input"
    ):
        converted(model, tmp_path)
    proto = check(model, tmp_path, ExportOptions(inputs=VECTOR))
    assert dims(proto.graph.output) == {"last": ["batch", 2]}
    assert dims(check(model, tmp_path).graph.output) == {"last": ["batch", 2]}


def test_a_stateful_layer_starts_from_the_state_it_has(tmp_path: Path) -> None:
    model = keras.Sequential([layers.Input(batch_shape=(2, 4, 8)), layers.LSTM(3, stateful=True)])
    model(np.random.default_rng(0).standard_normal((2, 4, 8)).astype(np.float32))
    states = [state.numpy() for state in model.layers[0].states]
    assert np.abs(states[0]).max() > 0
    check(model, tmp_path)
    for state, before in zip(model.layers[0].states, states, strict=True):
        np.testing.assert_array_equal(state.numpy(), before)
    assert "starts from the state" in converted(model, tmp_path).notes[0]


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = chain((4,), layers.Dense(50), layers.BatchNormalization(), layers.Dropout(0.5))
    model.layers[1].trainable = False
    before = [variable.numpy() for variable in model.variables]
    level = logging.getLogger("tf2onnx").level
    conversion = converted(model, tmp_path)
    conversion.answers({"x": VECTOR})
    assert [layer.trainable for layer in model.layers] == [True, False, True, True]
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert logging.getLogger("tf2onnx").level == level
    with_dropout = model(VECTOR, training=True).numpy()
    assert (with_dropout == 0).any()


def test_what_it_was_made_with(tmp_path: Path) -> None:
    stages: list[str] = []
    conversion = convert_keras(image_net(), tmp_path, ExportOptions(), stages.append)
    assert stages == ["trace", "convert with tf2onnx"]
    assert conversion.framework == f"Keras {keras.__version__} (tensorflow)"
    assert conversion.exporter.startswith("tf2onnx ")
    assert conversion.path == tmp_path / "model.onnx"
    assert onnx.load(conversion.path).ir_version <= 10


def test_what_a_keras_model_is() -> None:
    assert is_keras_model(image_net())
    assert not is_keras_model(layers.Dense(2))
    assert not is_keras_model(keras)


class Sized(layers.Layer):  # type: ignore[misc]
    """A layer of a fixed size."""

    def call(self, x: Any) -> Any:
        if x.shape[1] is None:
            raise ValueError("needs its size")
        return x * x.shape[1]


REFUSED: dict[str, tuple[Callable[[], Any], ExportOptions, str]] = {
    "never called": (Pair, ExportOptions(), "was never called"),
    "two arguments": (
        lambda: called(Pair(), VECTOR, VECTOR),
        ExportOptions(),
        r"takes left, right, .* --input left=1x16",
    ),
    "does not run": (Listed, ExportOptions(inputs=VECTOR), "does not run on the example inputs: .*"),
    "words": (
        lambda: chain((3,), layers.IntegerLookup(vocabulary=[1, 2]), dtype="int64"),
        ExportOptions(),
        "LookupTableFind.*export the part of the model behind",
    ),
    "no counterpart": (
        lambda: chain((800,), layers.MelSpectrogram(fft_length=64, sequence_stride=16, num_mel_bins=8)),
        ExportOptions(),
        r"layer '.*mel_spectrogram.*': tf2onnx cannot convert its operator RFFT",
    ),
    "cannot be dynamic": (
        lambda: chain((4, 4), Sized()),
        ExportOptions(dynamic={"x": {1: "n"}}),
        r"does not run on inputs of the shape x \(None, None, 4\): .*Sized.* needs its size; fix .*"
        "--input x=1x224x4",
    ),
    "other shape": (
        image_net,
        ExportOptions(inputs=np.ones((1, 64, 64, 3))),
        r"input 'x' has the shape \(None, 32, 32, 3\), the example \(1, 64, 64, 3\)",
    ),
    "no such input": (image_net, ExportOptions(inputs={"y": VECTOR}), "no input 'y'; the inputs are x"),
    "no such dynamic input": (image_net, ExportOptions(dynamic={"y": {0: "n"}}), "no input 'y'"),
    "too many names": (image_net, ExportOptions(input_names=["a", "b"]), "2 input names are given"),
    "opset": (image_net, ExportOptions(opset=21), "opset 21: tf2onnx writes 9 to 18"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    make, options, message = REFUSED[name]
    with pytest.raises((ExportError, OptionError), match=message) as info:
        converted(make(), tmp_path, options)
    assert "\n" not in str(info.value)


class Stretched(layers.Layer):  # type: ignore[misc]
    """A layer that does something else where its size is open."""

    def call(self, x: Any) -> Any:
        return x * (x.shape[1] or 1)


def test_the_answers_are_those_at_the_size_of_the_input(tmp_path: Path) -> None:
    model = chain((None, 3), Stretched())
    conversion = converted(model, tmp_path)
    x = np.ones((2, 5, 3), np.float32)
    [answer] = conversion.answers({"x": x})
    np.testing.assert_array_equal(answer, 5 * x)
    with pytest.raises(ExportError, match="does not answer as Keras"):
        fuseonnx.export(model, tmp_path / "net.onnx")


@keras.saving.register_keras_serializable(package="tests")
class Doubled(layers.Layer):  # type: ignore[misc]
    def call(self, x: Any) -> Any:
        return 2 * x


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_saved_model(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    model = chain((4,), layers.Dense(3), layers.BatchNormalization(), layers.Dense(2))
    model.compile("adam", "mse")
    with quiet():
        model.save(path)
    loaded = load_keras(path, ExportOptions())
    conversion = converted(loaded, tmp_path)
    with quiet():
        expected = model.predict(VECTOR, verbose=0)
    found = run_reference(onnx.load(conversion.path), {"x": VECTOR})
    np.testing.assert_allclose(next(iter(found.values())), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_lambda_layer_needs_trust(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    with quiet():
        chain((4,), layers.Lambda(lambda x: 3 * x)).save(path)
    with pytest.raises(ExportError, match=r"Lambda layer, which is Python code .*--trust"):
        load_keras(path, ExportOptions())
    loaded = load_keras(path, ExportOptions(trust=True))
    [found] = run_reference(onnx.load(converted(loaded, tmp_path).path), {"x": VECTOR}).values()
    np.testing.assert_array_equal(found, 3 * VECTOR)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_layer_of_ones_own(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"

    class Tripled(layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return 3 * x

    with quiet():
        chain((4,), Doubled(), Tripled()).save(path)
    with pytest.raises(
        ExportError, match=r"'Tripled'; decorate it with @keras.saving.register.*package.module:fun"
    ):
        load_keras(path, ExportOptions())
    loaded = load_keras(path, ExportOptions(custom_objects={"Tripled": Tripled}))
    [found] = run_reference(onnx.load(converted(loaded, tmp_path).path), {"x": VECTOR}).values()
    np.testing.assert_array_equal(found, 6 * VECTOR)


@pytest.mark.parametrize("name", ["net.weights.h5", "net.h5"])
def test_weights_only(name: str, tmp_path: Path) -> None:
    image_net().save_weights(tmp_path / "net.weights.h5")
    path = (tmp_path / "net.weights.h5").rename(tmp_path / name)
    with pytest.raises(ExportError, match=r"holds weights only, .* call load_weights\(\)"):
        load_keras(path, ExportOptions())


def test_damaged_files(tmp_path: Path) -> None:
    with quiet():
        for suffix in (".keras", ".h5"):
            path = tmp_path / f"net{suffix}"
            image_net().save(path)
            path.write_bytes(path.read_bytes()[:2000])
    (tmp_path / "text.keras").write_text("hello")
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("a", "b")
    for name in ("net.keras", "net.h5", "text.keras", "other.keras"):
        with pytest.raises(
            ExportError, match=r"is no Keras file, or a damaged one .*; save it again"
        ) as info:
            load_keras(tmp_path / name, ExportOptions())
        assert "\n" not in str(info.value)


ON_TORCH = """
import sys
from pathlib import Path
import numpy as np
from fuseonnx.frontends.keras.load import import_keras
from fuseonnx.frontends.options import ExportOptions
keras = import_keras()
keras.utils.set_random_seed(0)
from fuseonnx.frontends.keras import convert_keras
a, b = keras.layers.Input((8, 8, 3), name="a"), keras.layers.Input((4,), name="b")
norm = keras.layers.BatchNormalization(name="norm")
x = norm(keras.layers.Conv2D(4, 3)(a))
norm.moving_mean.assign([0.5, -1.0, 2.0, 0.1])
norm.moving_variance.assign([0.5, 1.5, 2.0, 0.7])
x = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D()(x))
model = keras.Model([a, b], {"y": keras.layers.Dense(2)(x), "z": keras.layers.Dense(3)(b)})
conversion = convert_keras(model, Path(sys.argv[1]), ExportOptions(), lambda stage: None)
print(conversion.framework, "|", conversion.exporter)
rng = np.random.default_rng(0)
shapes = {"a": (3, 8, 8, 3), "b": (3, 4)}
feeds = {name: rng.standard_normal(shape).astype("f4") for name, shape in shapes.items()}
np.savez(Path(sys.argv[1]) / "feeds.npz", **feeds)
answers = conversion.answers(feeds)
predicted = model.predict(feeds, verbose=0)
np.savez(Path(sys.argv[1]) / "answers.npz", **predicted)
for key, answer in zip("yz", answers):
    np.testing.assert_allclose(answer, predicted[key], rtol=1e-5, atol=1e-6)
"""
WITHOUT_TENSORFLOW = """
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "tensorflow" else real(name, *rest)
"""


def run_python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**{key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}, **environment}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, check=False)


def test_the_torch_backend_is_chosen_where_tensorflow_is_missing(tmp_path: Path) -> None:
    done = run_python(WITHOUT_TENSORFLOW + ON_TORCH, str(tmp_path))
    assert done.stdout.startswith(f"Keras {keras.__version__} (torch) | torch.onnx"), done.stderr
    proto = onnx.load(tmp_path / "model.onnx")
    assert dims(proto.graph.input) == {"a": ["batch", 8, 8, 3], "b": ["batch", 4]}
    assert dims(proto.graph.output) == {"y": ["batch", 2], "z": ["batch", 3]}
    feeds, answers = np.load(tmp_path / "feeds.npz"), np.load(tmp_path / "answers.npz")
    for name, found in run_reference(proto, dict(feeds)).items():
        np.testing.assert_allclose(found, answers[name], rtol=1e-4, atol=1e-5)


def test_another_backend_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = image_net()
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(
        ExportError, match=r"on Keras' jax backend; save it as .keras, and export the file where"
    ):
        converted(model, tmp_path)
