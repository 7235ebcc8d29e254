"""A live Keras model as an ONNX file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fuseonnx.errors import ExportError
from fuseonnx.frontends._quiet import quiet
from fuseonnx.frontends.conversion import Conversion
from fuseonnx.frontends.keras.call import Call, call_of, distinct, first_line
from fuseonnx.frontends.keras.on_torch import convert_on_torch
from fuseonnx.frontends.options import ExportOptions
from fuseonnx.frontends.tensorflow.freeze import ASSIGNMENTS
from fuseonnx.frontends.tensorflow.ports import refuse_words, settled, tensorflow, versions, write_dims
from fuseonnx.frontends.tensorflow.write import write_onnx

_EXAMPLE = 224
"""A size for an example."""


def is_keras_model(obj: object) -> bool:
    """Whether an object is a Keras 3 model; nobody can hold one without having imported Keras."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(obj, keras.Model)


def convert_keras(
    model: Any, folder: Path, options: ExportOptions, on_progress: Callable[[str], None]
) -> Conversion:
    """Write a Keras model in inference mode to `folder/"model.onnx"`.

    Inputs are named after the Keras inputs (a subclassed model's after its arguments or keys), outputs after
    the keys that the model returns, the layers that compute them, or `output`. Axis 0 is the batch, which is
    dynamic unless the model or `options.batch` fix it.

    Args:
        model: functional, Sequential or subclassed. One that was never called is called once, on
            `options.inputs`; beyond that it is not changed.

    Raises:
        ExportError: nobody knows the shapes of its inputs, it does not run on them, an operator has no
            counterpart in ONNX, or it is on another backend.
        OptionError: an option does not suit the model.
    """
    import keras

    backend = keras.backend.backend()
    if backend not in ("tensorflow", "torch"):
        raise ExportError(
            f"is on Keras' {backend} backend; save it as .keras, and export the file where KERAS_BACKEND is "
            "tensorflow or torch"
        )
    with quiet():
        call = call_of(model, options.inputs)
    convert = _on_tensorflow if backend == "tensorflow" else convert_on_torch
    return replace(
        convert(call, folder, options, on_progress), framework=f"Keras {keras.__version__} ({backend})"
    )


def _on_tensorflow(
    call: Call, folder: Path, options: ExportOptions, on_progress: Callable[[str], None]
) -> Conversion:
    tf = tensorflow()
    declared = [tf.TensorSpec(leaf.shape, leaf.dtype, leaf.name) for leaf in call.leaves]
    specs = settled(declared, replace(options, inputs=None), can_widen=True)
    names: list[str] = []

    def flat(*tensors: Any) -> list[Any]:
        results = call(*tensors)
        names[:] = [name for name, _ in results]
        return [value for _, value in results]

    on_progress("trace")
    try:
        with quiet():
            traced = tf.function(flat, input_signature=specs, autograph=False).get_concrete_function()
    except Exception as error:
        shapes = ", ".join(f"{spec.name} {spec.shape}" for spec in specs)
        raise ExportError(
            f"does not run on inputs of the shape {shapes}: {first_line(error)}{_cure(specs)}"
        ) from error
    refuse_words(traced.graph.as_graph_def())
    inputs = list(options.input_names) or [spec.name for spec in specs]
    outputs = list(options.output_names) or distinct(names, taken=inputs)
    on_progress("convert with tf2onnx")
    path = write_onnx(traced, folder, input_names=inputs, output_names=outputs, opset=options.opset)
    write_dims(path, specs, options)

    states = _states(traced)
    # A layer may ask for a size while it is traced, and do something else where the model leaves it open.
    sizes = [tuple(spec.shape[1:]) for spec in specs]
    is_open = any(None in each for each in sizes) and sizes == [leaf.shape[1:] for leaf in call.leaves]
    run = tf.function(flat, autograph=False) if is_open else traced

    def answers(feeds: Mapping[str, Any]) -> list[Any]:
        tensors = [tf.constant(feeds[name], spec.dtype) for name, spec in zip(inputs, specs, strict=True)]
        before = [state.numpy() for state in states]
        with quiet():
            results = [value.numpy() for value in run(*tensors)]
        for state, value in zip(states, before, strict=True):
            state.assign(value)
        return results

    framework, exporter = versions()
    notes = ("a layer keeps state between calls; in ONNX every run starts from the state it has now",)
    return Conversion(path, framework, exporter, answers, notes if states else ())


def _cure(specs: Sequence[Any]) -> str:
    """Return what to do about sizes beyond the batch that are open: some of Keras' layers need them."""
    for spec in specs:
        if None in tuple(spec.shape[1:]):
            example = "x".join(str(size or _EXAMPLE) for size in [1, *spec.shape[1:]])
            return f"; fix the sizes of its inputs: --input {spec.name}={example}"
    return ""


def _states(traced: Any) -> list[Any]:
    """Return the tf Variables that a concrete function assigns to."""
    graph = traced.graph
    assigned = {node.inputs[0].name for node in graph.get_operations() if node.type in ASSIGNMENTS}
    handles = [outer for outer, inner in graph.captures if inner.name in assigned]
    return [variable for variable in graph.variables if any(variable.handle is handle for handle in handles)]
