"""Inputs of a TensorFlow model: their shapes as the user wants them, and what ONNX has no counterpart for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx

from fuseonnx.errors import ExportError, OptionError
from fuseonnx.frontends._quiet import quiet_first_import
from fuseonnx.frontends.conversion import require
from fuseonnx.frontends.options import ExportOptions, InputSpec
from fuseonnx.frontends.tensorflow.labels import label_outputs

_FOR_WORDS = ("String", "Regex", "LookupTable", "HashTable", "DecodeRaw", "ParseExample", "UnicodeDecode")


def tensorflow() -> ModuleType:
    """Import TensorFlow and tf2onnx.

    Raises:
        ExportError: one is not installed.
    """
    with quiet_first_import():
        tf = require("tensorflow", "tensorflow")
        require("tf2onnx", "tensorflow")
    return tf


def versions() -> tuple[str, str]:
    """Return framework and exporter with their versions."""
    import tensorflow as tf
    import tf2onnx

    return f"TensorFlow {tf.__version__}", f"tf2onnx {tf2onnx.__version__}"


def settled(specs: Sequence[Any], options: ExportOptions, can_widen: bool = False) -> list[Any]:
    """Return the tf.TensorSpecs of a model's inputs with the shapes that `options` ask for.

    Args:
        can_widen: whether a size that the model declares may become another, or dynamic.

    Raises:
        OptionError: no such input or axis, a shape that the model does not take, an unknown rank.
    """
    import tensorflow as tf

    names = [spec.name for spec in specs]
    examples = _examples(names, options.inputs)
    for name in [*examples, *options.dynamic]:
        if name not in names:
            raise OptionError(f"no input '{name}'; the inputs are {', '.join(names)}")
    return [
        tf.TensorSpec(_shape(spec, examples.get(spec.name), options, can_widen), spec.dtype, spec.name)
        for spec in specs
    ]


def _shape(
    spec: Any, example: tuple[int, ...] | None, options: ExportOptions, can_widen: bool
) -> list[int | None]:
    if spec.shape.rank is None and example is None:
        raise OptionError(
            f"the rank of input '{spec.name}' is unknown; give its shape: --input {spec.name}=1x224x224x3"
        )
    declared = [None] * len(example or ()) if spec.shape.rank is None else spec.shape.as_list()
    if example is not None and len(example) != len(declared):
        raise OptionError(
            f"input '{spec.name}' has {len(declared)} axes, the shape given for it {len(example)}"
        )
    shape: list[int | None] = list(declared if example is None else example)
    if options.batch is not None and shape:
        shape[0] = None if options.batch == "dynamic" else options.batch
    for axis in options.dynamic.get(spec.name, ()):
        if not 0 <= axis < len(shape):
            raise OptionError(f"input '{spec.name}' has {len(shape)} axes; there is no axis {axis}")
        shape[axis] = None
    for axis, (fixed, wanted) in enumerate(zip(declared, shape, strict=True)):
        if fixed is not None and fixed != wanted and not can_widen:
            raise OptionError(
                f"axis {axis} of input '{spec.name}' is {fixed} in the model and cannot be "
                f"{'dynamic' if wanted is None else wanted}; save the model with that axis None"
            )
    return shape


def _examples(names: Sequence[str], inputs: Any) -> dict[str, tuple[int, ...]]:
    """Return input name to the shape of its example."""
    if inputs is None:
        return {}
    if isinstance(inputs, Mapping):
        return {name: tuple(value.shape) for name, value in inputs.items()}
    values = inputs if isinstance(inputs, tuple | list) else [inputs]
    if len(values) > len(names):
        raise OptionError(f"{len(values)} inputs are given, the model has {len(names)}: {', '.join(names)}")
    return {
        (isinstance(value, InputSpec) and value.name) or name: tuple(value.shape)
        for name, value in zip(names, values, strict=False)
    }


def write_dims(path: Path, specs: Sequence[Any], options: ExportOptions) -> None:
    """Write the shapes of the inputs into an ONNX file, and what follows from them for the outputs.

    Axis 0, where it is dynamic, is called `batch`.
    """
    model = onnx.load(path, load_external_data=False)
    for value, spec in zip(model.graph.input, specs, strict=True):
        symbols = {0: "batch", **options.dynamic.get(spec.name, {})}
        del value.type.tensor_type.shape.dim[:]
        for axis, size in enumerate(spec.shape.as_list()):
            dim = value.type.tensor_type.shape.dim.add()
            if size is None:
                dim.dim_param = symbols.get(axis, f"{value.name}_{axis}")
            else:
                dim.dim_value = size
    path.write_bytes(model.SerializeToString())
    label_outputs(path)


def keep_defaults(graph_def: Any, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """Put its default in place of every input that has one and is not `wanted`; return a note on each."""
    notes = []
    for node in graph_def.node:
        if node.op == "PlaceholderWithDefault" and node.name not in wanted:
            node.op = "Identity"
            node.attr["T"].CopyFrom(node.attr.pop("dtype"))
            node.attr.pop("shape", None)
            notes.append(f"input '{node.name}' is left out: it keeps its default")
    return tuple(notes)


def refuse_words(graph_def: Any) -> None:
    """Refuse a tf GraphDef that works on strings or looks words up in tables.

    Raises:
        ExportError: it names the operator and node.
    """
    bodies = (function.node_def for function in graph_def.library.function)
    for node in chain(graph_def.node, *bodies):
        if any(word in node.op for word in _FOR_WORDS):
            raise ExportError(
                f"node '{node.name}': its operator {node.op} works on strings or lookup tables, which "
                "tf2onnx cannot convert; export the part of the model behind the text processing"
            )
