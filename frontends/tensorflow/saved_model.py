"""TensorFlow SavedModels, those of TensorFlow 1 too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fuseonnx.errors import ExportError
from fuseonnx.frontends._quiet import quiet
from fuseonnx.frontends.conversion import Conversion, first_line
from fuseonnx.frontends.options import ExportOptions
from fuseonnx.frontends.tensorflow.function import convert_tf_function
from fuseonnx.frontends.tensorflow.ports import tensorflow


def convert_saved_model(
    source: Path, folder: Path, options: ExportOptions, on_progress: Callable[[str], None]
) -> Conversion:
    """Write a signature of the SavedModel in the folder `source` to `folder/"model.onnx"`.

    Inputs and outputs are named as the signature names them, in alphabetical order. By default the signature
    is `serving_default`, or the only one; a model without any may have a function with an `input_signature`.

    Raises:
        ExportError: the model is damaged, has no function, or an operator that has no counterpart in ONNX.
        OptionError: there is no such signature, input or axis.
    """
    tf = tensorflow()
    on_progress("load")
    try:
        with quiet():
            model = tf.saved_model.load(str(source))
    except (OSError, ValueError, KeyError, RuntimeError, tf.errors.OpError) as error:
        raise ExportError(f"TensorFlow cannot load it as a SavedModel: {first_line(error)}") from error
    return convert_tf_function(model, folder, options, on_progress)
