"""SavedModels, frozen graphs and live functions, against TensorFlow itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from fuseonnx.frontends.tensorflow import (
    convert_graph_def,
    convert_saved_model,
    convert_tf_function,
    is_tf_function,
)

with quiet_first_import():
    import tensorflow as tf

v1 = tf.compat.v1
Array = np.ndarray[Any, np.dtype[Any]]
_RNG = np.random.default_rng(7)


def _normal(*shape: int) -> Array:
    return _RNG.standard_normal(shape).astype(np.float32)


def _silent(_: str) -> None:
    pass


def _session(path: Path) -> Any:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _names(conversion: Conversion) -> tuple[list[str], list[str]]:
    graph = onnx.load(conversion.path).graph
    return [value.name for value in graph.input], [value.name for value in graph.output]


def _dims(conversion: Conversion, index: int = 0) -> list[int | str]:
    value = onnx.load(conversion.path).graph.input[index]
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _agrees(conversion: Conversion, feeds: Mapping[str, Array], expected: Sequence[Array]) -> None:
    """Assert that onnxruntime and the conversion's own answers are what TensorFlow computed."""
    results = _session(conversion.path).run(None, dict(feeds))
    answers = conversion.answers(feeds)
    assert len(results) == len(answers) == len(expected)
    for result, answer, truth in zip(results, answers, expected, strict=True):
        assert result.dtype == truth.dtype
        np.testing.assert_allclose(answer, truth, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(result, truth, rtol=1e-5, atol=1e-5)


class Net(tf.Module):  # type: ignore[misc]
    """Two functions with variables, two inputs, outputs out of alphabetical order."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = tf.Variable(_normal(3, 3, 3, 4))
        self.scale = tf.Variable(_normal(4))

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[
            tf.TensorSpec([None, None, None, 3], tf.float32, name="image"),
            tf.TensorSpec([None, 4], tf.float32, name="bias"),
        ]
    )
    def __call__(self, image: Any, bias: Any) -> dict[str, Any]:
        features = tf.nn.conv2d(image, self.kernel, 2, "SAME") * self.scale
        pooled = tf.reduce_mean(tf.nn.relu(features), [1, 2])
        return {"scores": pooled + bias, "features": features}

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])  # type: ignore[untyped-decorator]
    def head(self, x: Any) -> Any:
        return tf.tanh(x * self.scale)


@pytest.fixture(scope="module")
def net() -> Net:
    """A module."""
    return Net()


@pytest.fixture(scope="module")
def save(net: Net, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Save the net with signatures."""

    def save_it(**signatures: Any) -> Path:
        folder = tmp_path_factory.mktemp("saved")
        with quiet():
            tf.saved_model.save(net, str(folder), signatures=signatures or None)
        return folder

    return save_it


@pytest.fixture
def feeds() -> dict[str, Array]:
    """Inputs of the net."""
    return {"image": _normal(3, 9, 7, 3), "bias": _normal(3, 4)}


def _expected(net: Net, feeds: Mapping[str, Array]) -> list[Array]:
    results = net(tf.constant(feeds["image"]), tf.constant(feeds["bias"]))
    return [results["features"].numpy(), results["scores"].numpy()]


def test_a_signature_gives_the_names(
    net: Net, save: Callable[..., Path], feeds: dict[str, Array], tmp_path: Path
) -> None:
    source = save(serving_default=net.__call__, other=net.head)
    conversion = convert_saved_model(source, tmp_path, ExportOptions(), _silent)
    assert _names(conversion) == (["bias", "image"], ["features", "scores"])
    assert _dims(conversion, 0) == ["batch", 4]
    assert _dims(conversion, 1) == ["batch", "image_1", "image_2", 3]
    _agrees(conversion, feeds, _expected(net, feeds))
    assert conversion.framework == f"TensorFlow {tf.__version__}"
    assert conversion.exporter.startswith("tf2onnx 1.")


def test_a_signature_is_chosen(net: Net, save: Callable[..., Path], tmp_path: Path) -> None:
    source, x = save(encode=net.__call__, head=net.head), _normal(5, 4)
    conversion = convert_saved_model(source, tmp_path, ExportOptions(signature="head"), _silent)
    _agrees(conversion, {"x": x}, [np.tanh(x * net.scale.numpy())])
    assert _names(conversion) == (["x"], ["output_0"])


def test_the_only_signature_needs_no_choice(net: Net, save: Callable[..., Path], tmp_path: Path) -> None:
    conversion = convert_saved_model(save(head=net.head), tmp_path, ExportOptions(), _silent)
    assert _names(conversion)[0] == ["x"]


def test_a_model_without_signature_has_its_call(
    net: Net, save: Callable[..., Path], feeds: dict[str, Array], tmp_path: Path
) -> None:
    conversion = convert_saved_model(save(), tmp_path, ExportOptions(), _silent)
    assert _names(conversion) == (["image", "bias"], ["features", "scores"])
    _agrees(conversion, feeds, _expected(net, feeds))


def test_sizes_are_fixed_and_names_changed(
    net: Net, save: Callable[..., Path], feeds: dict[str, Array], tmp_path: Path
) -> None:
    options = ExportOptions(
        inputs={"image": InputSpec((1, 9, 7, 3))},
        batch=3,
        dynamic={"image": {1: "height"}},
        input_names=("b", "i"),
        output_names=("f", "s"),
        opset=15,
    )
    conversion = convert_saved_model(save(serving_default=net.__call__), tmp_path, options, _silent)
    assert _names(conversion) == (["b", "i"], ["f", "s"])
    assert _dims(conversion, 0) == [3, 4]
    assert _dims(conversion, 1) == [3, "height", 7, 3]
    _agrees(conversion, {"i": feeds["image"], "b": feeds["bias"]}, _expected(net, feeds))
    assert onnx.load(conversion.path).opset_import[0].version == 15
    assert onnx.load(conversion.path).ir_version <= 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ExportOptions(signature="decode"), "no signature 'decode'; there is __call__, encode, head"),
        (ExportOptions(), "has several signatures; choose one: --signature encode | head"),
        (
            ExportOptions(signature="head", dynamic={"y": {0: "n"}}),
            "no input 'y'; the inputs are x",
        ),
        (
            ExportOptions(signature="head", dynamic={"x": {2: "n"}}),
            "input 'x' has 2 axes; there is no axis 2",
        ),
        (
            ExportOptions(signature="head", dynamic={"x": {1: "n"}}),
            "axis 1 of input 'x' is 4 in the model and cannot be dynamic; save the model with that axis None",
        ),
        (
            ExportOptions(signature="head", inputs=InputSpec((1, 5))),
            "axis 1 of input 'x' is 4 in the model and cannot be 5; save the model with that axis None",
        ),
        (
            ExportOptions(signature="head", inputs=InputSpec((1, 5, 5))),
            "input 'x' has 2 axes, the shape given for it 3",
        ),
        (
            ExportOptions(signature="head", inputs=(InputSpec((1, 4)), InputSpec((1, 4)))),
            "2 inputs are given, the model has 1: x",
        ),
        (ExportOptions(signature="head", opset=3), "opset 3: tf2onnx writes 9 to 18"),
    ],
)
def test_wrong_options_are_one_line(
    net: Net, save: Callable[..., Path], tmp_path: Path, options: ExportOptions, message: str
) -> None:
    with pytest.raises(OptionError) as caught:
        convert_saved_model(save(encode=net.__call__, head=net.head), tmp_path, options, _silent)
    assert str(caught.value) == message


def test_a_model_without_any_function_says_so(tmp_path: Path) -> None:
    module = tf.Module()
    module.weights = tf.Variable(1.0)
    with quiet():
        tf.saved_model.save(module, str(tmp_path / "saved"))
    with pytest.raises(ExportError, match=r"^has no signature; save it with tf\.saved_model\.save"):
        convert_saved_model(tmp_path / "saved", tmp_path, ExportOptions(), _silent)


def test_a_damaged_saved_model_is_one_line(net: Net, save: Callable[..., Path], tmp_path: Path) -> None:
    source = save(head=net.head)
    next((source / "variables").glob("*.data*")).unlink()
    with pytest.raises(ExportError, match=r"^TensorFlow cannot load it as a SavedModel: .*variables"):
        convert_saved_model(source, tmp_path, ExportOptions(), _silent)
    (source / "saved_model.pb").write_bytes((source / "saved_model.pb").read_bytes()[:300])
    with pytest.raises(ExportError, match=r"^TensorFlow cannot load it as a SavedModel: "):
        convert_saved_model(source, tmp_path, ExportOptions(), _silent)


def test_keras_model_export(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    inputs = [layers.Input((6, 6, 2), name="left"), layers.Input((6, 6, 2), name="right")]
    both = layers.Concatenate()(inputs)
    normed = layers.BatchNormalization()(layers.DepthwiseConv2D(3, name="deep")(both))
    model = keras.Model(inputs, [layers.Dense(3)(layers.Flatten()(normed)), normed])
    norm = next(layer for layer in model.layers if isinstance(layer, layers.BatchNormalization))
    norm.set_weights([_RNG.uniform(0.5, 1.5, weight.shape) for weight in norm.get_weights()])
    with quiet():
        model.export(str(tmp_path / "keras"), verbose=False)
    conversion = convert_saved_model(tmp_path / "keras", tmp_path, ExportOptions(), _silent)
    assert _names(conversion) == (["left", "right"], ["output_0", "output_1"])
    feeds = {"left": _normal(2, 6, 6, 2), "right": _normal(2, 6, 6, 2)}
    _agrees(conversion, feeds, [result.numpy() for result in model(list(feeds.values()), training=False)])


# TensorFlow 1


class Old:
    """A graph as TensorFlow 1 made it: variables, a while loop, a cond, an input with a default."""

    def __init__(self, folder: Path, use_resource: bool = False) -> None:
        v1.disable_control_flow_v2()
        try:
            with quiet(), tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
                image = v1.placeholder(tf.float32, [None, 8, 8, 3], name="image")
                scale = v1.placeholder_with_default(2.0, [], name="scale")
                kernel = v1.get_variable("kernel", initializer=_normal(3, 3, 3, 4), use_resource=use_resource)
                features = tf.nn.relu(tf.nn.conv2d(image * scale, kernel, 1, "SAME"), name="features")
                pooled = tf.reduce_mean(features, [1, 2], name="pooled")
                looped = tf.while_loop(
                    lambda i, _: i < 3, lambda i, x: (i + 1, x * 1.5 - 0.25), [tf.constant(0), pooled]
                )[1]
                chosen = v1.cond(tf.reduce_sum(looped) > 0, lambda: looped + 1, lambda: looped * 3)
                scores = tf.nn.softmax(chosen, name="scores")
                tf.nn.top_k(scores, 2, name="best")
                session.run(v1.global_variables_initializer())
                v1.saved_model.simple_save(
                    session, str(folder / "saved"), {"picture": image}, {"probs": scores, "first": features}
                )
                definition = graph.as_graph_def()
                frozen = v1.graph_util.convert_variables_to_constants(session, definition, ["best"])
                self.image = _normal(4, 8, 8, 3)
                self.results = session.run(["best:0", "best:1", scores, features], {image: self.image})
        finally:
            v1.enable_control_flow_v2()
        self.saved = folder / "saved"
        self.frozen, self.text, self.raw = folder / "frozen.pb", folder / "frozen.pbtxt", folder / "raw.pb"
        self.frozen.write_bytes(frozen.SerializeToString())
        self.text.write_text(str(frozen))
        self.raw.write_bytes(definition.SerializeToString())


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Old:
    """Files of TensorFlow 1."""
    return Old(tmp_path_factory.mktemp("old"))


@pytest.mark.parametrize("kind", ["frozen", "text"])
def test_a_frozen_graph_is_searched_for_inputs_and_outputs(old: Old, tmp_path: Path, kind: str) -> None:
    conversion = convert_graph_def(getattr(old, kind), tmp_path, ExportOptions(), _silent)
    assert _names(conversion) == (["image"], ["best", "best:1"])
    assert _dims(conversion) == ["batch", 8, 8, 3]
    assert conversion.notes == ("input 'scale' is left out: it keeps its default",)
    operators = {node.op_type for node in onnx.load(conversion.path).graph.node}
    assert {"Loop", "If"} <= operators
    _agrees(conversion, {"image": old.image}, old.results[:2])
    negative = {"image": -old.image}  # the other branch
    _agrees(conversion, negative, [np.asarray(x) for x in conversion.answers(negative)])


def test_ports_of_a_frozen_graph_are_chosen(old: Old, tmp_path: Path) -> None:
    options = ExportOptions(input_names=["image:0"], output_names=["scores", "features:0"], batch=4)
    conversion = convert_graph_def(old.frozen, tmp_path, options, _silent)
    assert _names(conversion) == (["image"], ["scores", "features"])
    assert _dims(conversion) == [4, 8, 8, 3]
    _agrees(conversion, {"image": old.image}, old.results[2:])


def test_a_frozen_graph_is_cut_at_an_inner_tensor(old: Old, tmp_path: Path) -> None:
    options = ExportOptions(input_names=["features"], output_names=["scores"])
    conversion = convert_graph_def(old.frozen, tmp_path, options, _silent)
    assert _names(conversion) == (["features"], ["scores"])
    _agrees(conversion, {"features": old.results[3]}, [old.results[2]])


def test_an_input_with_a_default_can_be_asked_for(old: Old, tmp_path: Path) -> None:
    options = ExportOptions(input_names=["image", "scale"], output_names=["features"])
    conversion = convert_graph_def(old.frozen, tmp_path, options, _silent)
    half = {"image": old.image * 4, "scale": np.array(0.5, np.float32)}
    _agrees(conversion, half, [old.results[3]])
    assert not conversion.notes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ExportOptions(output_names=["nothing"]), "no tensor 'nothing' in the graph; its nodes are image, "),
        (ExportOptions(input_names=["best:1"]), "'best:1' is one of several results of its node and cannot"),
        (
            ExportOptions(input_names=["scale"], output_names=["features"]),
            "the outputs also need image; name all inputs, or inputs further on",
        ),
        (
            ExportOptions(input_names=["image", "pooled"], output_names=["features"]),
            "the outputs do not depend on pooled; the inputs are image",
        ),
    ],
)
def test_wrong_names_in_a_frozen_graph(
    old: Old, tmp_path: Path, options: ExportOptions, message: str
) -> None:
    with pytest.raises(OptionError) as caught:
        convert_graph_def(old.frozen, tmp_path, options, _silent)
    assert str(caught.value).startswith(message)


def test_variables_are_refused(old: Old, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"^the value of variable 'kernel' is not in the file; .*freeze"):
        convert_graph_def(old.raw, tmp_path, ExportOptions(output_names=["scores"]), _silent)


@pytest.mark.parametrize("use_resource", [False, True])
def test_a_saved_model_of_tensorflow_1(tmp_path: Path, use_resource: bool) -> None:
    old = Old(tmp_path, use_resource)
    conversion = convert_saved_model(old.saved, tmp_path, ExportOptions(), _silent)
    assert _names(conversion) == (["picture"], ["first", "probs"])
    assert conversion.notes == ("input 'scale' is left out: it keeps its default",)
    _agrees(conversion, {"picture": old.image}, [old.results[3], old.results[2]])
    with pytest.raises(ExportError, match=r"^is the saved_model.pb of a SavedModel; give the folder"):
        convert_graph_def(old.saved / "saved_model.pb", tmp_path, ExportOptions(), _silent)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a graph at all", "is no TensorFlow GraphDef"),
        (b"\x22\x03\x08\xfa\x0b", "is no TensorFlow GraphDef: it has no nodes"),
    ],
)
def test_another_file_is_no_graph(tmp_path: Path, content: bytes, message: str) -> None:
    for name in ("model.pb", "model.pbtxt"):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ExportError, match=message):
        convert_graph_def(tmp_path / "model.pb", tmp_path, ExportOptions(), _silent)
    with pytest.raises(ExportError, match="is no TensorFlow GraphDef"):
        convert_graph_def(tmp_path / "model.pbtxt", tmp_path, ExportOptions(), _silent)


def test_a_truncated_graph(old: Old, tmp_path: Path) -> None:
    (tmp_path / "model.pb").write_bytes(old.frozen.read_bytes()[:-40])
    with pytest.raises(ExportError, match=r"^is no TensorFlow GraphDef, or is truncated"):
        convert_graph_def(tmp_path / "model.pb", tmp_path, ExportOptions(), _silent)


def _graph_file(path: Path, build: Callable[[], object]) -> Path:
    with tf.Graph().as_default() as graph:
        build()
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


def test_a_graph_of_unknown_rank_asks_for_a_shape(tmp_path: Path) -> None:
    source = _graph_file(
        tmp_path / "model.pb",
        lambda: tf.nn.relu(tf.matmul(v1.placeholder(tf.float32, name="x"), _normal(3, 4)), name="y"),
    )
    with pytest.raises(OptionError, match=r"^the rank of input 'x' is unknown; give its shape: --input x="):
        convert_graph_def(source, tmp_path, ExportOptions(), _silent)
    options = ExportOptions(inputs=(InputSpec((2, 3)),), batch="dynamic")
    conversion = convert_graph_def(source, tmp_path, options, _silent)
    x = _normal(5, 3)
    assert _dims(conversion) == ["batch", 3]
    _agrees(conversion, {"x": x}, [np.asarray(y) for y in conversion.answers({"x": x})])


def test_a_graph_without_input(tmp_path: Path) -> None:
    source = _graph_file(tmp_path / "model.pb", lambda: tf.nn.relu(tf.constant(_normal(3)), name="y"))
    with pytest.raises(ExportError, match=r"^has no input: its outputs depend on no placeholder"):
        convert_graph_def(source, tmp_path, ExportOptions(), _silent)


def test_an_operator_that_nobody_knows(old: Old, tmp_path: Path) -> None:
    graph = v1.GraphDef.FromString(old.frozen.read_bytes())
    next(node for node in graph.node if node.name == "features").op = "MyOwnRelu"
    (tmp_path / "model.pb").write_bytes(graph.SerializeToString())
    with pytest.raises(
        ExportError, match=r"^TensorFlow cannot load the graph: Op type not registered 'MyOwnRelu'"
    ):
        convert_graph_def(tmp_path / "model.pb", tmp_path, ExportOptions(), _silent)


def test_an_operator_that_onnx_has_not(tmp_path: Path) -> None:
    def build() -> None:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        tf.math.bessel_i0e(x, name="block/bessel")

    source = _graph_file(tmp_path / "model.pb", build)
    with pytest.raises(ExportError, match=r"^layer 'block/bessel': .*operator BesselI0e"):
        convert_graph_def(source, tmp_path, ExportOptions(), _silent)


def test_strings_and_tables_are_refused(tmp_path: Path) -> None:
    def decode() -> None:
        content = v1.placeholder(tf.string, [], name="jpeg")
        tf.nn.relu(tf.cast(tf.image.decode_jpeg(content, channels=3), tf.float32), name="y")

    source = _graph_file(tmp_path / "model.pb", decode)
    with pytest.raises(ExportError, match=r"^input 'jpeg' takes strings; name a tensor behind the decoding"):
        convert_graph_def(source, tmp_path, ExportOptions(), _silent)

    class Table(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            keys = tf.lookup.KeyValueTensorInitializer(["a", "b"], [1, 2], tf.string, tf.int64)
            self.table = tf.lookup.StaticHashTable(keys, 0)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="word")])  # type: ignore[untyped-decorator]
        def __call__(self, word: Any) -> Any:
            return self.table.lookup(tf.strings.lower(word))

    with quiet():
        tf.saved_model.save(Table(), str(tmp_path / "table"))
    with pytest.raises(ExportError, match=r"^node '.*': its operator .* works on strings or lookup tables"):
        convert_saved_model(tmp_path / "table", tmp_path, ExportOptions(), _silent)


# Live objects


def test_what_is_a_function(net: Net) -> None:
    assert is_tf_function(net)
    assert is_tf_function(net.head)
    assert is_tf_function(net.head.get_concrete_function())
    assert not is_tf_function(tf.Module())
    assert not is_tf_function(tf.constant(1.0))
    assert not is_tf_function(len)


def test_a_module_is_converted(net: Net, feeds: dict[str, Array], tmp_path: Path) -> None:
    conversion = convert_tf_function(net, tmp_path, ExportOptions(), _silent)
    assert _names(conversion) == (["image", "bias"], ["features", "scores"])
    _agrees(conversion, feeds, _expected(net, feeds))


def test_a_function_with_control_flow_of_today(tmp_path: Path) -> None:
    @tf.function  # type: ignore[untyped-decorator]
    def power(x: Any, exponent: Any) -> Any:
        result = tf.ones_like(x)
        for _ in tf.range(exponent):
            result = result * x
        if tf.reduce_sum(x) > 0:
            result = result + 1.0
        return result

    with pytest.raises(ExportError, match=r"^its input shapes are not known; give example inputs"):
        convert_tf_function(power, tmp_path, ExportOptions(), _silent)
    options = ExportOptions(inputs=(InputSpec((2, 3)), InputSpec((), "int32")), batch="dynamic")
    conversion = convert_tf_function(power, tmp_path, options, _silent)
    assert _names(conversion) == (["x", "exponent"], ["output_0"])
    for sign in (1, -1):
        x = sign * np.abs(_normal(4, 3))
        _agrees(conversion, {"x": x, "exponent": np.array(3, np.int32)}, [x**3 + (1 if sign > 0 else 0)])


def test_a_result_that_is_called_like_its_input(tmp_path: Path) -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])  # type: ignore[untyped-decorator]
    def double(x: Any) -> dict[str, Any]:
        return {"x": x * 2, "same": x}

    conversion = convert_tf_function(double.get_concrete_function(), tmp_path, ExportOptions(), _silent)
    assert _names(conversion) == (["x"], ["same", "x_output"])
    x = _normal(3, 2)
    _agrees(conversion, {"x": x}, [x, x * 2])
