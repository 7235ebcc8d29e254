"""TensorFlow's graphs become ONNX files that answer alike, also where tf2onnx alone goes wrong."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fuseonnx.errors import ExportError, OptionError
from fuseonnx.frontends._quiet import quiet, quiet_first_import
from fuseonnx.frontends.tensorflow import freeze
from fuseonnx.frontends.tensorflow.mend import constants_stay
from fuseonnx.frontends.tensorflow.write import write_onnx
from tests.helpers import all_nodes, run_reference

with quiet_first_import():
    import tensorflow as tf

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
IMAGE = RNG.standard_normal((2, 8, 8, 4)).astype(np.float32)
KERNEL = RNG.standard_normal((2, 2, 6, 4)).astype(np.float32)


def written(function: Any, folder: Path, *specs: Any, opset: int | None = None) -> onnx.ModelProto:
    with quiet():
        concrete = tf.function(function, input_signature=specs).get_concrete_function()
        outputs = [f"out_{index}" for index in range(len(concrete.outputs))]
    inputs = [f"in_{index}" for index in range(len(specs))]
    path = write_onnx(concrete, folder, input_names=inputs, output_names=outputs, opset=opset)
    assert path == folder / "model.onnx"
    return onnx.load(path)


def check(function: Any, folder: Path, array: np.ndarray, **options: Any) -> onnx.ModelProto:
    """Convert a function of one input whose axis 0 is dynamic, and compare."""
    model = written(function, folder, tf.TensorSpec([None, *array.shape[1:]], array.dtype), **options)
    onnx.checker.check_model(model, full_check=True)
    with quiet():
        expected = tf.nest.flatten(tf.function(function)(tf.constant(array)))
    found = run_reference(model, {"in_0": array})
    for index, value in enumerate(expected):
        ours, theirs = found[f"out_{index}"], value.numpy()
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max(initial=1e-3))
    return model


def operators(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in all_nodes(model.graph)}


class Net(tf.Module):  # type: ignore[misc]
    """Convolutions with weights in functions that XLA is to compile, one within the other, and in a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = tf.Variable(RNG.standard_normal((3, 3, 4, 4)).astype(np.float32) / 6)
        self.grouped = tf.Variable(RNG.standard_normal((3, 3, 2, 4)).astype(np.float32) / 6)

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
    def inner(self, image: Any) -> Any:
        return tf.nn.relu(tf.nn.conv2d(image, self.grouped, 1, "SAME"))

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
    def outer(self, image: Any) -> Any:
        return self.inner(image) - tf.nn.conv2d(image, self.kernel, 1, "SAME")

    def __call__(self, image: Any) -> Any:
        first = self.outer(image)
        _, last = tf.while_loop(lambda i, _: i < 3, lambda i, x: (i + 1, self.outer(x)), (0, first))
        return first, last


def test_calls_that_xla_compiles_are_inlined_at_any_depth(tmp_path: Path) -> None:
    model = check(Net(), tmp_path, IMAGE)
    assert operators(model) >= {"Conv", "Loop"}
    assert not [op for op in operators(model) if "Call" in op]


def test_what_is_written(tmp_path: Path) -> None:
    model = written(Net(), tmp_path, tf.TensorSpec([None, 8, 8, 4]))
    assert model.ir_version <= 10
    assert {each.domain: each.version for each in model.opset_import}[""] == 18
    assert [value.name for value in model.graph.input] == ["in_0"]
    assert [value.name for value in model.graph.output] == ["out_0", "out_1"]


@pytest.mark.parametrize("opset", [9, 13, 17])
def test_the_opset_is_the_one_asked_for(tmp_path: Path, opset: int) -> None:
    model = check(lambda x: tf.reduce_mean(tf.nn.relu6(x), [1, 2]), tmp_path, 4 * IMAGE, opset=opset)
    assert {each.domain: each.version for each in model.opset_import}[""] == opset


@pytest.mark.parametrize("opset", [8, 19])
def test_an_opset_that_tf2onnx_does_not_write(tmp_path: Path, opset: int) -> None:
    with pytest.raises(OptionError, match=f"opset {opset}: tf2onnx writes 9 to 18"):
        written(tf.nn.relu, tmp_path, tf.TensorSpec([2]), opset=opset)


def test_an_operator_without_counterpart_is_named_with_its_layer(tmp_path: Path) -> None:
    def net(x: Any) -> Any:
        with tf.name_scope("net/stem"):
            return tf.math.betainc(x, x, x)

    with pytest.raises(
        ExportError, match=r"layer 'net/stem': tf2onnx cannot convert its operator Betainc"
    ) as info:
        written(net, tmp_path, tf.TensorSpec([2]))
    assert "replace the layer" in str(info.value)


def test_an_operator_without_counterpart_in_a_loop(tmp_path: Path) -> None:
    def net(x: Any) -> Any:
        return tf.while_loop(lambda i, _: i < 3, lambda i, x: (i + 1, tf.math.betainc(x, x, x)), (0, x))[1]

    with pytest.raises(ExportError, match="operator Betainc"):
        written(net, tmp_path, tf.TensorSpec([2]))


def test_the_reason_that_tf2onnx_gives_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"operator RFFT \(.*ComplexAbs"):
        written(lambda x: tf.math.real(tf.signal.rfft(x)), tmp_path, tf.TensorSpec([2, 16]))


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(tf.math.erfc, id="Erfc"),
        pytest.param(tf.nn.gelu, id="Gelu"),
        pytest.param(tf.math.expm1, id="Expm1"),
        pytest.param(lambda x: tf.raw_ops.Bucketize(input=x, boundaries=[-0.5, 0.0, 1.0]), id="Bucketize"),
        pytest.param(
            lambda x: tf.raw_ops.Bucketize(input=tf.cast(3 * x, tf.int32), boundaries=[-1, 0, 2.5]),
            id="Bucketize-int",
        ),
        pytest.param(
            lambda x: tf.nn.conv2d_transpose(x, KERNEL, (2, 25, 25, 6), 3, "VALID"),
            id="ConvTranspose-output_padding",
        ),
        pytest.param(lambda x: tf.math.log1p(tf.abs(x)), id="Log1p"),
        pytest.param(lambda x: tf.cast(8 * x, tf.int32) // 3, id="FloorDiv-int"),
        pytest.param(lambda x: tf.cast(8 * x, tf.int32) // -3, id="FloorDiv-negative"),
        pytest.param(lambda x: tf.cast(8 * x, tf.int32) % 3, id="FloorMod-int"),
        pytest.param(lambda x: x // 0.3 + x % 0.7, id="FloorDiv-float"),
        pytest.param(lambda x: tf.reshape(x, (-1, tf.shape(x)[1] // 2 * 8, 4)), id="FloorDiv-size"),
        pytest.param(lambda x: tf.math.cumprod(x, -1, exclusive=True), id="Cumprod-last"),
        pytest.param(lambda x: tf.math.cumprod(x, 1, reverse=True), id="Cumprod-first"),
        pytest.param(lambda x: tf.searchsorted([-1.0, 0.0, 1.0], tf.reshape(x, [-1])), id="LowerBound"),
        pytest.param(
            lambda x: tf.searchsorted(tf.sort(x, -1), tf.round(x), side="right"),
            id="UpperBound",
        ),
        pytest.param(lambda x: tf.where(x > 0, tf.math.log(x), tf.reduce_max(x)), id="SelectV2"),
        pytest.param(lambda x: tf.where(x > 0, tf.cast(x, tf.int16), tf.int16.min), id="SelectV2-int16"),
        pytest.param(lambda x: tf.where(x > 0, x < 1, x < -1), id="SelectV2-bool"),
        pytest.param(lambda x: tf.raw_ops.Select(condition=x[:, 0, 0, 0] > 0, x=x, y=1 / x), id="Select"),
        pytest.param(lambda x: tf.image.resize(x, (5, 13), "bicubic"), id="ResizeBicubic"),
        pytest.param(
            lambda x: tf.compat.v1.image.resize(
                tf.cast(9 * x, tf.int32), (11, 3), "bicubic", align_corners=True
            ),
            id="ResizeBicubic-corners",
        ),
        pytest.param(lambda x: tf.image.resize(x, (5, 3), "area"), id="ResizeArea"),
    ],
)
def test_what_tf2onnx_lacks(tmp_path: Path, function: Any) -> None:
    check(function, tmp_path, IMAGE)


@pytest.mark.parametrize("magnitude", [1e-30, 1e-9, 1e-4])
def test_log1p_of_small_numbers_keeps_its_digits(tmp_path: Path, magnitude: float) -> None:
    x = np.array([[-magnitude, magnitude, 0.0, np.inf, -1.0, np.nan]], np.float32)
    model = written(tf.math.log1p, tmp_path, tf.TensorSpec([None, 6]))
    np.testing.assert_allclose(run_reference(model, {"in_0": x})["out_0"], np.log1p(x), rtol=1e-6)


def test_what_is_not_chosen_may_be_infinite(tmp_path: Path) -> None:
    x = np.array([[-1.0, 0.0, 4.0]], np.float32)
    model = written(lambda x: tf.where(x > 0, tf.math.rsqrt(x), 0.0), tmp_path, tf.TensorSpec([None, 3]))
    np.testing.assert_array_equal(run_reference(model, {"in_0": x})["out_0"], [[0.0, 0.0, 0.5]])


def test_the_sign_of_a_zero_is_read(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    x = np.array([[-0.0, 0.0, -1.0], [0.0, -0.0, -np.inf], [-np.inf, -3.0, -0.0]], np.float32)
    check(keras.ops.signbit, tmp_path, x)
    model = check(lambda x: keras.ops.argmax(x, axis=-1), tmp_path, x)
    assert run_reference(model, {"in_0": x})["out_0"].tolist() == [1, 0, 2]


def test_bits_of_a_float_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"operator Bitcast \(only the sign bit of a float32"):
        written(lambda x: tf.bitcast(x, tf.int32), tmp_path, tf.TensorSpec([2]))


@pytest.mark.parametrize("start", [0, 1, 5])
@pytest.mark.parametrize("axes", [(1,), (1, 2)])
def test_a_part_is_written_into_a_tensor(tmp_path: Path, start: int, axes: tuple[int, ...]) -> None:
    """As into the cache of a decoder; a part that would reach beyond the end starts earlier."""
    from tensorflow.compiler.tf2xla.ops import gen_xla_ops

    def update(x: Any) -> Any:
        begin = [tf.cast(tf.reduce_max(x), tf.int32) if axis in axes else 0 for axis in range(4)]
        part = x[:, :2, : 3 if 2 in axes else None] * 10
        return gen_xla_ops.xla_dynamic_update_slice(x, part, tf.stack(begin))

    cache = np.clip(RNG.uniform(0, 1, (2, 6, 5, 3)), 0, 0.9).astype(np.float32) + start
    check(update, tmp_path, cache)


def test_a_resize_of_unknown_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"ResizeBicubic \(the sizes of its images are not known\)"):
        written(
            lambda x: tf.image.resize(x, (4, 4), "bicubic"), tmp_path, tf.TensorSpec([None, None, None, 3])
        )


def test_bfloat16_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"computes in bfloat16.*set_dtype_policy\('float32'\)"):
        written(lambda x: tf.cast(tf.cast(x, tf.bfloat16) * 2, tf.float32), tmp_path, tf.TensorSpec([2]))


def test_a_graph_that_tf2onnx_does_not_get_through_is_refused_in_one_line(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")

    def branch(x: Any) -> Any:
        total = tf.reduce_sum(x)
        return tf.cond(total > 0, lambda: keras.ops.scan(lambda a, b: (a + b, b), x[0], x)[0], lambda: x[0])

    with pytest.raises(ExportError, match=r"tf2onnx fails on the graph \(.*\); replace the layer") as info:
        written(branch, tmp_path, tf.TensorSpec([None, 3]))
    assert "\n" not in str(info.value)


def test_groups_of_a_3d_convolution(tmp_path: Path) -> None:
    kernel = tf.constant(RNG.standard_normal((3, 3, 3, 2, 6)).astype(np.float32))

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
    def convolve(x: Any) -> Any:
        return tf.nn.convolution(x, kernel, 1, "SAME")

    volume = RNG.standard_normal((2, 5, 5, 5, 4)).astype(np.float32)
    model = check(convolve, tmp_path, volume)
    [conv] = [node for node in model.graph.node if node.op_type == "Conv"]
    assert [a.i for a in conv.attribute if a.name == "group"] == [2]


def test_the_axes_of_a_1x1_image(tmp_path: Path) -> None:
    kernel = tf.constant(RNG.standard_normal((7, 7, 1, 8)).astype(np.float32))

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
    def normalized_convolution(x: Any) -> Any:
        x = tf.nn.conv2d(x, kernel, 1, "SAME")
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        return tf.nn.batch_normalization(x, mean, variance, None, tf.fill([8], 2.0), 1e-3)

    check(normalized_convolution, tmp_path, RNG.standard_normal((2, 1, 1, 8)).astype(np.float32))


def test_weights_without_room_in_the_graph_lie_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = tf.Variable(RNG.standard_normal((4, 700)).astype(np.float32))
    bias = tf.Variable(RNG.standard_normal(700).astype(np.float32))
    net = Net()
    monkeypatch.setattr(freeze, "_MAX_BYTES", 4000)

    def function(x: Any) -> Any:
        return tf.nn.conv2d(x, net.kernel, 1, "SAME") @ dense + bias

    check(function, tmp_path, IMAGE)
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    apart = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    assert {tuple(tensor.dims) for tensor in apart} == {(4, 700)}
    assert (tmp_path / "model.onnx.data").stat().st_size == 4 * 4 * 700
    assert [value.name for value in model.graph.input] == ["in_0"]


def test_a_kernel_that_lies_beside_the_graph_is_not_transposed_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = Net()
    monkeypatch.setattr(freeze, "_MAX_BYTES", 0)
    model = check(lambda x: tf.nn.conv2d(x, net.kernel, 1, "SAME"), tmp_path, IMAGE)
    initializers = {tensor.name for tensor in model.graph.initializer}
    assert not [n for n in model.graph.node if n.op_type == "Transpose" and n.input[0] in initializers]


def test_a_recurrent_layer_is_found_whatever_lies_beside_the_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with quiet():
        import keras

        keras.utils.set_random_seed(0)
        lstm = keras.layers.LSTM(5)
        lstm(np.zeros((1, 6, 3), np.float32))
    monkeypatch.setattr(freeze, "_MAX_BYTES", 0)
    sequence = RNG.standard_normal((2, 6, 3)).astype(np.float32)
    assert "LSTM" in operators(check(lstm, tmp_path, sequence))


def test_the_state_that_a_function_keeps_is_a_constant(tmp_path: Path) -> None:
    state = tf.Variable(np.ones(4, np.float32))

    def function(x: Any) -> Any:
        result = x + state
        state.assign_add(tf.reduce_sum(x, [0, 1, 2]))
        return result

    model = written(function, tmp_path, tf.TensorSpec([None, 8, 8, 4]))
    np.testing.assert_allclose(run_reference(model, {"in_0": IMAGE})["out_0"], IMAGE + 1, rtol=1e-6)


def test_tf2onnx_is_as_before() -> None:
    from tf2onnx.graph import Node

    before = Node.update_proto
    with pytest.raises(KeyError), constants_stay():
        assert Node.update_proto is not before
        raise KeyError
    assert Node.update_proto is before


def test_quiet_collects_warnings_and_restores_levels() -> None:
    logger = logging.getLogger("tf2onnx")
    logger.setLevel(logging.INFO)
    filters = list(warnings.filters)
    with pytest.raises(KeyError), quiet() as caught:
        assert not logger.isEnabledFor(logging.ERROR)
        warnings.warn("a dimension was baked in", UserWarning, stacklevel=1)
        raise KeyError
    assert [str(each.message) for each in caught] == ["a dimension was baked in"]
    assert logger.level == logging.INFO
    assert warnings.filters == filters


FRESH = """
import sys
from pathlib import Path
import numpy as np
from fuseonnx.frontends.keras import convert_keras, load_keras
from fuseonnx.frontends.options import ExportOptions

def show(stage):
    print(stage, file=sys.stderr)

model = load_keras(Path(sys.argv[1]), ExportOptions())
conversion = convert_keras(model, Path(sys.argv[2]), ExportOptions(), show)
conversion.answers({model.inputs[0]._keras_history.operation.name: np.ones((2, 8, 8, 4), np.float32)})
print(conversion.framework, conversion.exporter)
"""


def test_a_fresh_process_writes_progress_and_nothing_else(tmp_path: Path) -> None:
    with quiet():
        import keras

        layers = [
            keras.layers.Input((8, 8, 4)),
            *(keras.layers.Conv2D(4, 3, groups=2) for _ in range(3)),
            keras.layers.Flatten(),
            keras.layers.Dense(2, "gelu"),
        ]
        model = keras.Sequential(layers)
    file = tmp_path / "net.keras"
    model.save(file)
    arguments = [sys.executable, "-W", "default", "-c", FRESH, str(file), str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stderr.split("\n") == ["trace", "convert with tf2onnx", ""]
    assert done.stdout.startswith("Keras 3.")
    assert "tf2onnx" in done.stdout
