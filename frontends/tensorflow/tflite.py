"""TFLite files, float and quantized."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import onnx

from fuseonnx.errors import ExportError
from fuseonnx.frontends._quiet import quiet, quiet_native
from fuseonnx.frontends.conversion import Conversion, first_line
from fuseonnx.frontends.options import ExportOptions
from fuseonnx.frontends.tensorflow.ports import settled, tensorflow, versions, write_dims
from fuseonnx.frontends.tensorflow.write import finish

_MAGIC = b"TFL3"
_FOREIGN = re.compile(r"(?:unresolved custom op: |Node number \d+ \(Flex)(\w+)")
_IN_FLOAT = (
    "TFLite rounds activations to int8 on the fly where it multiplies them by int8 weights; "
    "in ONNX they stay float32"
)


def convert_tflite(
    file: Path, folder: Path, options: ExportOptions, on_progress: Callable[[str], None]
) -> Conversion:
    """Write a TFLite model to `folder/"model.onnx"`.

    Inputs and outputs are named as its signature names them, or as its tensors. Weights in float16 become
    float32; weights and activations in int8 stay so, between QuantizeLinear and DequantizeLinear. With int8
    weights alone ("dynamic range"), activations are float32 in ONNX, while TFLite rounds them to int8.

    Raises:
        ExportError: the file is not TFLite, is truncated, or has an operator that has no counterpart in ONNX.
        OptionError: an input or an axis does not exist, or cannot have the size asked for.
    """
    tf = tensorflow()
    on_progress("load")
    interpreter = _opened(file, tf.lite.experimental.OpResolverType.AUTO)
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    named = _signature_names(interpreter)
    specs = settled([_spec(tensor, named) for tensor in inputs], options)
    input_names = list(options.input_names) or [spec.name for spec in specs]
    output_names = list(options.output_names) or [
        named.get(tensor["index"], tensor["name"]) for tensor in outputs
    ]
    on_progress("convert with tf2onnx")
    with _float_activations():
        path = finish(folder, (input_names, output_names), options.opset, tflite_path=str(file))
    write_dims(path, specs, options)

    answers = partial(_answers, interpreter, input_names)
    notes: tuple[str, ...] = ()
    other_answers = None
    if _has_int8_weights_alone(path):
        other = _opened(file, tf.lite.experimental.OpResolverType.BUILTIN_REF)
        notes, other_answers = (_IN_FLOAT,), partial(_answers, other, input_names)
    return Conversion(path, f"TensorFlow Lite {tf.__version__}", versions()[1], answers, notes, other_answers)


def _answers(interpreter: Any, names: Sequence[str], feeds: Mapping[str, Any]) -> Sequence[Any]:
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    for name, tensor in zip(names, inputs, strict=True):
        interpreter.resize_tensor_input(tensor["index"], feeds[name].shape, strict=True)
    interpreter.allocate_tensors()
    for name, tensor in zip(names, inputs, strict=True):
        interpreter.set_tensor(tensor["index"], feeds[name])
    interpreter.invoke()
    return [interpreter.get_tensor(tensor["index"]) for tensor in outputs]


def _opened(file: Path, kernels: Any) -> Any:
    """Return an interpreter of the file's content."""
    import tensorflow as tf

    content = file.read_bytes()
    if content[4:8] != _MAGIC:
        raise ExportError("is not a TFLite file; convert the model with tf.lite.TFLiteConverter")
    try:
        with quiet(), quiet_native():
            interpreter = tf.lite.Interpreter(model_content=content, experimental_op_resolver_type=kernels)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        if foreign := _FOREIGN.search(str(error)):
            raise ExportError(
                f"its operator {foreign[1]} is none of TFLite's own and cannot run here; export the model "
                "that the file was made from, or leave the operator out"
            ) from error
        raise ExportError(f"TFLite cannot load it; is it truncated? {first_line(error)}") from error
    return interpreter


def _spec(tensor: Mapping[str, Any], named: Mapping[int, str]) -> Any:
    """Return the tf.TensorSpec of an input."""
    import tensorflow as tf

    shape = [None if size < 0 else int(size) for size in tensor["shape_signature"]]
    return tf.TensorSpec(shape, tensor["dtype"], named.get(tensor["index"], tensor["name"]))


def _has_int8_weights_alone(path: Path) -> bool:
    operators = {node.op_type for node in onnx.load(path, load_external_data=False).graph.node}
    return "DequantizeLinear" in operators and "QuantizeLinear" not in operators


def _signature_names(interpreter: Any) -> dict[int, str]:
    """Return tensor index to name, of the one signature; of several, it is not known which is meant."""
    signatures = interpreter.get_signature_list()
    if len(signatures) != 1:
        return {}
    runner = interpreter.get_signature_runner(next(iter(signatures)))
    ports = {**runner.get_output_details(), **runner.get_input_details()}
    return {tensor["index"]: name for name, tensor in ports.items()}


@contextmanager
def _float_activations() -> Iterator[None]:
    """Keep tf2onnx from quantizing activations on the fly: over the whole batch, so that samples mix."""
    from tf2onnx.tflite_handlers import tfl_math

    quantize = tfl_math.dynamic_quantize_inputs
    tfl_math.dynamic_quantize_inputs = lambda *_: None
    try:
        yield
    finally:
        tfl_math.dynamic_quantize_inputs = quantize
