"""Frozen TensorFlow graphs: GraphDef in `.pb` and `.pbtxt` files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fuseonnx.errors import ExportError, OptionError
from fuseonnx.frontends._quiet import quiet
from fuseonnx.frontends.conversion import Conversion
from fuseonnx.frontends.options import ExportOptions
from fuseonnx.frontends.tensorflow.ports import (
    keep_defaults,
    refuse_words,
    settled,
    tensorflow,
    versions,
    write_dims,
)
from fuseonnx.frontends.tensorflow.write import write_graph_def

_VARIABLES = ("Variable", "VariableV2", "VarHandleOp", "AutoReloadVariable")
_NEVER_RESULTS = ("Const", "Placeholder", "NoOp", "Assert", "Print", "PrintV2", "Switch", "SaveV2")
_SAVED_MODEL_START = b"\x08\x01"  # its schema version; a GraphDef starts with a node
_LISTED = 12


def convert_graph_def(
    file: Path, folder: Path, options: ExportOptions, on_progress: Callable[[str], None]
) -> Conversion:
    """Write a frozen GraphDef to `folder/"model.onnx"`.

    By default, inputs are the placeholders that the outputs need, and outputs are the nodes that no other
    consumes. `options.input_names` and `output_names` choose others, as TensorFlow writes them, `x` or `x:0`;
    an input may be any node: what lies before it is left out. In ONNX, they are called so, without `:0`.

    Raises:
        ExportError: the file is no GraphDef, holds variables, or an operator that has no counterpart in ONNX.
        OptionError: there is no such tensor or axis.
    """
    tf = tensorflow()
    on_progress("load")
    graph_def = _read(file)
    notes = keep_defaults(graph_def, list(map(_node, options.input_names)))
    for name in options.input_names:
        _cut(graph_def, name, _imported(graph_def))
    outputs = [_tensor(_imported(graph_def), name) for name in options.output_names] or _found(graph_def)
    with quiet():
        graph_def = tf.compat.v1.graph_util.extract_sub_graph(graph_def, list(map(_node, outputs)))
    _refuse(graph_def)
    inputs = _inputs(graph_def, options.input_names)
    specs = _reshape(graph_def, inputs, options)
    tensors = [f"{name}:0" for name in inputs], outputs
    with quiet():
        function = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph_def, name=""), [])
        function = function.prune(*tensors)
    on_progress("convert with tf2onnx")
    names = inputs, [name.removesuffix(":0") for name in outputs]
    path = write_graph_def(graph_def, folder, tensors=tensors, names=names, opset=options.opset)
    write_dims(path, specs, options)

    def answers(feeds: Mapping[str, Any]) -> Sequence[Any]:
        return [result.numpy() for result in function(*(tf.constant(feeds[name]) for name in inputs))]

    framework, exporter = versions()
    return Conversion(path, framework, exporter, answers, notes)


def _read(file: Path) -> Any:
    """Return the GraphDef in a file."""
    import tensorflow as tf
    from google.protobuf import message, text_format

    graph_def, content = tf.compat.v1.GraphDef(), file.read_bytes()
    if file.suffix != ".pbtxt" and content.startswith(_SAVED_MODEL_START):
        raise ExportError("is the saved_model.pb of a SavedModel; give the folder that it belongs to")
    try:
        if file.suffix == ".pbtxt":
            text_format.Parse(content, graph_def)
        else:
            graph_def.ParseFromString(content)
    except (message.DecodeError, text_format.ParseError, UnicodeDecodeError) as error:
        raise ExportError(
            "is no TensorFlow GraphDef, or is truncated; save the frozen graph again"
        ) from error
    if not graph_def.node:
        raise ExportError("is no TensorFlow GraphDef: it has no nodes; save the frozen graph again")
    return graph_def


def _imported(graph_def: Any) -> Any:
    """Return the tf.Graph of a GraphDef.

    Raises:
        ExportError: TensorFlow does not know an operator, or finds the graph invalid.
    """
    import tensorflow as tf

    with quiet(), tf.Graph().as_default() as graph:
        try:
            tf.import_graph_def(graph_def, name="")
        except (ValueError, KeyError, tf.errors.OpError) as error:
            reason = str(error).strip().partition("\n")[0].partition(". ")[0]
            raise ExportError(f"TensorFlow cannot load the graph: {reason}") from error
    return graph


def _cut(graph_def: Any, name: str, graph: Any) -> None:
    """Make a placeholder of the node `name`."""
    tensor = graph.get_tensor_by_name(_tensor(graph, name))
    if tensor.op.type == "Placeholder":
        return
    if len(tensor.op.outputs) > 1:
        raise OptionError(f"'{name}' is one of several results of its node and cannot be an input")
    node = next(node for node in graph_def.node if node.name == tensor.op.name)
    node.op = "Placeholder"
    del node.input[:]
    node.attr.clear()
    node.attr["dtype"].type = tensor.dtype.as_datatype_enum
    node.attr["shape"].shape.CopyFrom(tensor.shape.as_proto())


def _found(graph_def: Any) -> list[str]:
    """Return the tensors of the nodes that no other node consumes.

    Raises:
        OptionError: there is none.
    """
    consumed = {
        _node(name.removeprefix("^")) for node in graph_def.node if node.op != "NoOp" for name in node.input
    }
    operations = _imported(graph_def).get_operations()
    found = [
        tensor.name
        for operation in operations
        if operation.name not in consumed and operation.type not in _NEVER_RESULTS
        for tensor in operation.outputs[: 1 if operation.type == "Merge" else None]
    ]
    if not found:
        raise OptionError("no outputs are found in the graph; name them: --output-names")
    return found


def _inputs(graph_def: Any, wanted: Sequence[str]) -> list[str]:
    """Return the nodes that are inputs: `wanted`, or all placeholders of a graph without idle nodes."""
    there = [node.name for node in graph_def.node if node.op in ("Placeholder", "PlaceholderWithDefault")]
    if not there:
        raise ExportError("has no input: its outputs depend on no placeholder")
    if not wanted:
        return there
    names = [_node(name) for name in wanted]
    if missing := [name for name in there if name not in names]:
        raise OptionError(f"the outputs also need {_some(missing)}; name all inputs, or inputs further on")
    if idle := [name for name in names if name not in there]:
        raise OptionError(f"the outputs do not depend on {_some(idle)}; the inputs are {_some(there)}")
    return names


def _reshape(graph_def: Any, inputs: Sequence[str], options: ExportOptions) -> list[Any]:
    """Give the placeholders the shapes that `options` ask for; return them as tf.TensorSpecs."""
    import tensorflow as tf

    graph = _imported(graph_def)
    tensors = [graph.get_tensor_by_name(f"{name}:0") for name in inputs]
    declared = [
        tf.TensorSpec(tensor.shape, tensor.dtype, name) for tensor, name in zip(tensors, inputs, strict=True)
    ]
    specs = settled(declared, options, can_widen=True)
    by_name = {node.name: node for node in graph_def.node}
    for node in graph_def.node:
        node.attr.pop("_output_shapes", None)
    for spec in specs:
        by_name[spec.name].attr["shape"].shape.CopyFrom(spec.shape.as_proto())
    return specs


def _refuse(graph_def: Any) -> None:
    """Refuse a graph whose weights are elsewhere, or that works on strings."""
    refuse_words(graph_def)
    if variable := next((node.name for node in graph_def.node if node.op in _VARIABLES), None):
        raise ExportError(
            f"the value of variable '{variable}' is not in the file; export the SavedModel, or freeze the "
            "graph with tf.compat.v1.graph_util.convert_variables_to_constants"
        )
    import tensorflow as tf

    for node in graph_def.node:
        if node.op == "Placeholder" and node.attr["dtype"].type == tf.string.as_datatype_enum:
            raise ExportError(
                f"input '{node.name}' takes strings; name a tensor behind the decoding: --input-names"
            )


def _tensor(graph: Any, name: str) -> str:
    """Return `x:0` for `x`.

    Raises:
        OptionError: there is none of that name.
    """
    try:
        return str(graph.get_tensor_by_name(name if ":" in name else f"{name}:0").name)
    except (KeyError, ValueError) as error:
        near = [operation.name for operation in graph.get_operations() if operation.type != "Const"]
        raise OptionError(f"no tensor '{name}' in the graph; its nodes are {_some(near)}") from error


def _node(tensor: str) -> str:
    return tensor.partition(":")[0]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
