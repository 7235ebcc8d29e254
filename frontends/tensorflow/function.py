"""TensorFlow functions: a tf.function, a ConcreteFunction, a tf.Module that is called, a signature."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fuseonnx.errors import ExportError, OptionError
from fuseonnx.frontends._quiet import quiet
from fuseonnx.frontends.conversion import Conversion
from fuseonnx.frontends.options import ExportOptions
from fuseonnx.frontends.tensorflow.freeze import frozen, tensors_of
from fuseonnx.frontends.tensorflow.ports import (
    keep_defaults,
    refuse_words,
    settled,
    tensorflow,
    versions,
    write_dims,
)
from fuseonnx.frontends.tensorflow.write import write_graph_def

_DEFAULT = "serving_default"
_OF_TENSORFLOW_1 = ("VariableV2", "Switch", "Merge", "Enter")


def is_tf_function(obj: object) -> bool:
    """Whether it is a tf.function, a ConcreteFunction, a loaded SavedModel, or a tf.Module with functions."""
    tf = sys.modules.get("tensorflow")
    if tf is None:
        return False
    kinds = (tf.types.experimental.ConcreteFunction, tf.types.experimental.PolymorphicFunction)
    return isinstance(obj, kinds) or hasattr(obj, "signatures") or _functions(obj) != {}


def convert_tf_function(
    obj: Any, folder: Path, options: ExportOptions, on_progress: Callable[[str], None]
) -> Conversion:
    """Write a live TensorFlow function to `folder/"model.onnx"`.

    Inputs are named after the arguments, outputs after the keys of a dict that is returned, else `output_0`…;
    their order is that of `tf.nest.flatten`, which sorts the keys of a dict.

    Args:
        obj: a ConcreteFunction; a tf.function with an `input_signature`, or with example inputs in `options`;
            a tf.Module or loaded SavedModel, of which `options.signature` chooses the function.

    Raises:
        ExportError: shapes are not known, or an operator has no counterpart in ONNX.
        OptionError: the signature, an input or an axis does not exist.
    """
    tf = tensorflow()
    polymorphic = tf.types.experimental.PolymorphicFunction
    if not isinstance(obj, tf.types.experimental.ConcreteFunction):
        function = obj if isinstance(obj, polymorphic) else choose_function(obj, options.signature)
        obj = _traced(function, options) if isinstance(function, polymorphic) else function
    return convert_concrete(obj, folder, options, on_progress)


def choose_function(obj: Any, signature: str | None) -> Any:
    """Return the function of a tf.Module or loaded SavedModel to export.

    Signatures come before functions with an `input_signature`. Without a name: `serving_default`, `__call__`,
    or the only one there is.

    Raises:
        ExportError: there is none.
        OptionError: there is none of that name, or several and no default.
    """
    signatures, functions = dict(getattr(obj, "signatures", {})), _functions(obj)
    if signature is not None:
        found = {**functions, **signatures}
        if signature not in found:
            raise OptionError(f"no signature '{signature}'; there is {', '.join(sorted(found)) or 'none'}")
        return found[signature]
    found = signatures or functions
    if not found:
        raise ExportError(
            "has no signature; save it with tf.saved_model.save(module, folder, signatures=module.function)"
        )
    for default in (_DEFAULT, "__call__"):
        if default in found:
            return found[default]
    if len(found) > 1:
        raise OptionError(f"has several signatures; choose one: --signature {' | '.join(sorted(found))}")
    return next(iter(found.values()))


def convert_concrete(
    concrete: Any, folder: Path, options: ExportOptions, on_progress: Callable[[str], None]
) -> Conversion:
    """Write a ConcreteFunction to `folder/"model.onnx"`, in the shapes that `options` ask for.

    Raises:
        ExportError: an operator has no counterpart in ONNX.
        OptionError: an input or an axis does not exist, or cannot have the size asked for.
    """
    import tensorflow as tf

    structure = concrete.structured_input_signature
    leaves = tf.nest.flatten(structure, expand_composites=True)
    declared = [
        tf.TensorSpec(leaf.shape, leaf.dtype, leaf.name or f"input_{index}")
        for index, leaf in enumerate(leaf for leaf in leaves if isinstance(leaf, tf.TensorSpec))
    ]
    specs = settled(declared, options)

    def call(*tensors: Any) -> list[Any]:
        rest = iter(tensors)
        filled = [next(rest) if isinstance(leaf, tf.TensorSpec) else leaf for leaf in leaves]
        args, kwargs = tf.nest.pack_sequence_as(structure, filled, expand_composites=True)
        results = tf.nest.flatten(concrete(*args, **kwargs), expand_composites=True)
        return [result for result in results if result is not None]

    on_progress("trace")
    with quiet():
        traced = concrete
        if not _is_tied_to_its_graph(concrete):
            traced = tf.function(call, input_signature=specs, autograph=False).get_concrete_function()
    refuse_words(traced.graph.as_graph_def())
    inputs = list(options.input_names) or [spec.name for spec in specs]
    outputs = list(options.output_names) or _output_names(concrete, len(traced.outputs), inputs)
    on_progress("convert with tf2onnx")
    path, notes = _write(traced, folder, (inputs, outputs), options.opset)
    write_dims(path, specs, options)

    def answers(feeds: Mapping[str, Any]) -> Sequence[Any]:
        tensors = [tf.constant(feeds[name], spec.dtype) for name, spec in zip(inputs, specs, strict=True)]
        return [result.numpy() for result in call(*tensors)]

    framework, exporter = versions()
    return Conversion(path, framework, exporter, answers, notes)


def _write(
    concrete: Any, folder: Path, names: tuple[Sequence[str], Sequence[str]], opset: int | None
) -> tuple[Path, tuple[str, ...]]:
    with quiet():
        graph_def, weights = frozen(concrete)
    notes = keep_defaults(graph_def)
    path = write_graph_def(
        graph_def, folder, tensors=tensors_of(concrete), names=names, opset=opset, weights=weights
    )
    return path, notes


def _is_tied_to_its_graph(concrete: Any) -> bool:
    """Whether it has what of TensorFlow 1 cannot be inlined: reference variables, loops and branches."""
    return any(operation.type in _OF_TENSORFLOW_1 for operation in concrete.graph.get_operations())


def _output_names(concrete: Any, count: int, inputs: Sequence[str]) -> list[str]:
    results = concrete.structured_outputs
    if isinstance(results, dict) and len(results) == count:
        return [f"{name}_output" if name in inputs else name for name in sorted(results)]
    return [f"output_{index}" for index in range(count)]


def _traced(function: Any, options: ExportOptions) -> Any:
    """Return the one concrete function of a tf.function."""
    import tensorflow as tf

    if function.input_signature is not None:
        return function.get_concrete_function()
    if restored := getattr(function, "concrete_functions", None):
        return restored[0]
    if options.inputs is None:
        raise ExportError(
            "its input shapes are not known; give example inputs, or an input_signature to @tf.function"
        )
    args = () if isinstance(options.inputs, Mapping) else options.inputs
    args = args if isinstance(args, tuple | list) else (args,)
    kwargs = options.inputs if isinstance(options.inputs, Mapping) else {}

    def spec(value: Any) -> Any:
        shape = [None if options.batch == "dynamic" and not axis else n for axis, n in enumerate(value.shape)]
        return tf.TensorSpec(shape, value.dtype)

    return function.get_concrete_function(
        *map(spec, args), **{name: spec(value) for name, value in kwargs.items()}
    )


def _functions(obj: Any) -> dict[str, Any]:
    """Return the tf.functions among the attributes of an object that know the shapes of their inputs."""
    import tensorflow as tf

    if not isinstance(obj, tf.Module | tf.__internal__.tracking.AutoTrackable):
        return {}
    found = {}
    for name in dir(obj):
        if not name.startswith("_") or name == "__call__":
            value = getattr(obj, name, None)
            if isinstance(value, tf.types.experimental.PolymorphicFunction) and (
                value.input_signature is not None or len(getattr(value, "concrete_functions", ())) == 1
            ):
                found[name] = value
    return found
