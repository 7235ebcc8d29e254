"""TensorFlow graphs to ONNX files, by tf2onnx and around what it gets wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from fuseonnx.errors import ExportError, OptionError
from fuseonnx.frontends._ports import name_ports
from fuseonnx.frontends._quiet import quiet
from fuseonnx.frontends.conversion import MAX_IR_VERSION, first_line
from fuseonnx.frontends.tensorflow.freeze import frozen, inlined, tensors_of
from fuseonnx.frontends.tensorflow.handlers import HANDLERS
from fuseonnx.frontends.tensorflow.mend import constants_stay, mend, transposes_stay

NEWEST_OPSET = 18
"""That tf2onnx 1.17 writes."""

_OLDEST_OPSET = 9
_DATA = "model.onnx.data"


def write_onnx(
    concrete: Any,
    folder: Path,
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
    opset: int | None,
) -> Path:
    """Write a concrete function of TensorFlow, its variables frozen, to `folder/"model.onnx"`.

    Args:
        concrete: a tf ConcreteFunction. Its inputs that are not captured, in order, get `input_names`; its
            flat outputs get `output_names`.
        opset: 9 to 18; by default 18.

    Raises:
        ExportError: an operator has no counterpart in ONNX.
        OptionError: the opset is not one that tf2onnx writes, or the names do not fit.
    """
    with quiet():
        graph_def, weights = frozen(concrete)
    return write_graph_def(
        graph_def,
        folder,
        tensors=tensors_of(concrete),
        names=(input_names, output_names),
        opset=opset,
        weights=weights,
    )


def write_graph_def(
    graph_def: Any,
    folder: Path,
    *,
    tensors: tuple[Sequence[str], Sequence[str]],
    names: tuple[Sequence[str], Sequence[str]] = ((), ()),
    opset: int | None,
    weights: Mapping[str, Any] | None = None,
) -> Path:
    """Write a frozen tf GraphDef to `folder/"model.onnx"`.

    Args:
        tensors: names of the input and output tensors in the graph, such as `x:0`.
        names: what to call them in ONNX; empty keeps the names.
        opset: 9 to 18; by default 18.
        weights: placeholder to tf Variable, of weights that the graph has no room for.

    Raises:
        ExportError: an operator has no counterpart in ONNX.
        OptionError: the opset is not one that tf2onnx writes, or the names do not fit.
    """
    import tensorflow as tf
    from tf2onnx import tf_loader

    weights = weights or {}
    _refuse_bfloat16(graph_def)
    inputs, outputs = [*tensors[0], *(f"{name}:0" for name in weights)], list(tensors[1])
    with quiet(), tf.device("/cpu:0"), tf.Graph().as_default():
        if graph_def.library.function:
            graph_def = inlined(graph_def, [*inputs, *outputs])
        tf.import_graph_def(graph_def, name="")
        graph_def = tf_loader.tf_optimize(inputs, outputs, graph_def)
    return finish(
        folder,
        names,
        opset,
        graph_def,
        list(weights.values()),
        input_names=inputs,
        output_names=outputs,
    )


def finish(
    folder: Path,
    names: tuple[Sequence[str], Sequence[str]],
    opset: int | None,
    graph_def: Any = None,
    weights: Sequence[Any] = (),
    **source: Any,
) -> Path:
    """Run tf2onnx, name inputs and outputs, and write `folder/"model.onnx"`.

    Args:
        names: of inputs and outputs, in order; empty keeps what tf2onnx calls them.
        opset: 9 to 18; by default 18.
        graph_def: frozen and inlined; None with `tflite_path`.
        weights: tf Variables that the last inputs stand for; they are written to `folder/"model.onnx.data"`.
        source: of tf2onnx's process_tf_graph: `input_names`, `output_names` (tensors of the graph),
            `tflite_path`, `initialized_tables`.

    Raises:
        ExportError: an operator has no counterpart in ONNX.
        OptionError: the opset is not one that tf2onnx writes, or the names do not fit.
    """
    opset = NEWEST_OPSET if opset is None else opset
    if not _OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise OptionError(f"opset {opset}: tf2onnx writes {_OLDEST_OPSET} to {NEWEST_OPSET}")
    import tensorflow as tf

    if graph_def is not None:
        source["graph_def"] = graph_def
    with quiet(), constants_stay(), transposes_stay(), _failures() as failures, tf.device("/cpu:0"):
        try:
            proto = _draft(opset, source, keep_going=False)
        except Exception:
            failures.clear()
            proto = _second_draft(opset, source)
    _refuse_foreign(proto.graph, opset, failures)
    model = ir.from_proto(proto)
    _write_weights(model.graph, weights, folder)
    name_ports(model.graph, *names)
    model.ir_version = min(model.ir_version, MAX_IR_VERSION)
    path = folder / "model.onnx"
    path.write_bytes(ir.to_proto(model).SerializeToString())
    return path


def _absorb_transposes(graph: ir.Graph, value: ir.Value, weight: np.ndarray) -> np.ndarray:
    """Return a weight as its users want it; tf2onnx transposes the kernels of convolutions."""
    users = [user for user, _ in value.uses()]
    orders = {tuple(user.attributes.get_ints("perm", ())) for user in users if user.op_type == "Transpose"}
    if len(orders) != 1 or any(user.op_type != "Transpose" for user in users):
        return weight
    for user in users:
        user.outputs[0].replace_all_uses_with(value)
        graph.remove(user, safe=True)
    return np.ascontiguousarray(weight.transpose(orders.pop()))


def _draft(opset: int, source: Mapping[str, Any], *, keep_going: bool) -> Any:
    """Return what tf2onnx writes. To keep going when one of its optimizers fails, it copies the weights."""
    import tensorflow as tf
    from tf2onnx import optimizer, tfonnx

    options = dict(source)
    with tf.Graph().as_default() as graph:
        if graph_def := options.pop("graph_def", None):
            tf.import_graph_def(graph_def, name="")
        draft = tfonnx.process_tf_graph(
            graph, opset=opset, continue_on_error=True, custom_op_handlers=dict(HANDLERS), **options
        )
        draft = optimizer.optimize_graph(draft, catch_errors=keep_going)
        mend(draft)
        return draft.make_model("")


def _second_draft(opset: int, source: Mapping[str, Any]) -> Any:
    try:
        return _draft(opset, source, keep_going=True)
    except Exception as error:  # tf2onnx has no exceptions of its own
        raise ExportError(
            f"tf2onnx fails on the graph ({first_line(error)}); replace the layer that it names, or export "
            "the model up to it"
        ) from error


def _write_weights(graph: ir.Graph, weights: Sequence[Any], folder: Path) -> None:
    """Turn the last inputs into initializers with external data, written one after the other."""
    if not weights:
        return
    with (folder / _DATA).open("wb") as file:
        for variable in reversed(weights):
            value, offset = graph.inputs.pop(), file.tell()
            array = _absorb_transposes(graph, value, variable.numpy())
            array.tofile(file)
            value.shape = ir.Shape(array.shape)
            value.const_value = ir.ExternalTensor(
                _DATA,
                offset,
                array.nbytes,
                ir.DataType.from_numpy(array.dtype),
                shape=value.shape,
                name=value.name or "",
                base_dir=folder,
            )
            graph.register_initializer(value)


@contextmanager
def _failures() -> Iterator[dict[str, str]]:
    """Collect {node: reason} of the nodes that tf2onnx gives up on; it only logs them."""
    failures: dict[str, str] = {}

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and isinstance(record.args, tuple) and record.args:
                failures[str(record.args[0])] = str(record.exc_info[1])

    logger, collector = logging.getLogger("tf2onnx.tfonnx"), Collector()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(collector)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    try:
        yield failures
    finally:
        logger.removeHandler(collector)
        logger.setLevel(level)
        logger.propagate = propagate


def _refuse_foreign(graph: onnx.GraphProto, opset: int, failures: Mapping[str, str]) -> None:
    """Refuse a graph with a node that is none of ONNX's: tf2onnx leaves TensorFlow's node in place."""
    for node in graph.node:
        is_known = onnx.defs.has(node.op_type, opset, node.domain)
        if not is_known or node.name in failures:
            reason = f" ({failures[node.name]})" if node.name in failures else ""
            raise ExportError(
                f"layer '{_layer_of(node.name)}': tf2onnx cannot convert its operator {node.op_type}{reason};"
                " replace the layer, or export the model up to it"
            )
        for attribute in node.attribute:
            for body in [attribute.g, *attribute.graphs]:
                _refuse_foreign(body, opset, failures)


def _refuse_bfloat16(graph_def: Any) -> None:
    """Refuse a graph that computes in bfloat16: tf2onnx takes it for float16 here and for itself there."""
    from tensorflow.core.framework import types_pb2

    for node in [*graph_def.node, *(node for body in graph_def.library.function for node in body.node_def)]:
        if any(value.type == types_pb2.DT_BFLOAT16 for value in node.attr.values()):
            raise ExportError(
                f"layer '{_layer_of(node.name)}' computes in bfloat16, which tf2onnx cannot write; build the "
                "model with keras.config.set_dtype_policy('float32') and load its weights"
            )


def _layer_of(node: str) -> str:
    """Return the path of the layer that a node belongs to: `net_1/stem_1` of `net_1/stem_1/Conv2D`."""
    path = [
        part
        for part in node.split("/")
        if not part.startswith(("StatefulPartitionedCall", "PartitionedCall"))
    ]
    return "/".join(path[:-1]) or node
