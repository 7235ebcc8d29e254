"""What tf2onnx does not convert, or converts wrongly, one function each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from onnx import TensorProto, helper


@contextmanager
def constants_stay() -> Iterator[None]:
    """Keep tf2onnx from writing each constant anew after each of its optimizers.

    Protocol buffers do not give that memory back before the graph is gone: a network of 350 MB took 17 GB.
    Nothing reads what is written: the model is made of the attribute itself.
    """
    from tf2onnx.graph import Node

    update = Node.update_proto

    def update_others(node: Any, *args: Any, **kwargs: Any) -> None:
        if not node.is_const():
            update(node, *args, **kwargs)

    Node.update_proto = update_others
    try:
        yield
    finally:
        Node.update_proto = update


@contextmanager
def transposes_stay() -> Iterator[None]:
    """Keep tf2onnx from turning Transposes of unit axes into Reshapes, by shapes that it moved before.

    LayerNormalization behind a depthwise convolution of a 1×1 image came out with the wrong axes.
    """
    from tf2onnx.optimizer.transpose_optimizer import TransposeOptimizer

    act = TransposeOptimizer.post_optimize_action
    TransposeOptimizer.post_optimize_action = lambda _self: None
    try:
        yield
    finally:
        TransposeOptimizer.post_optimize_action = act


def mend(graph: Any) -> None:
    """Correct the nodes of a tf2onnx graph that ONNX does not allow."""
    for node in graph.get_nodes():
        if node.type == "Conv":
            _count_groups(graph, node)
        elif node.type == "ConvTranspose":
            _move_negative_pads(node)


def _count_groups(graph: Any, node: Any) -> None:
    """Set the groups of a grouped 3-D convolution: tf2onnx sets them of 1-D and 2-D ones only.

    Of those it knows quantized kernels by a shape that is still TFLite's, channels last.
    """
    channels, kernel = graph.get_shape(node.input[0]), graph.get_shape(node.input[1])
    is_3d = channels is not None and kernel is not None and len(kernel) == 5
    if is_3d and min(channels[1], kernel[1]) > 0 and node.get_attr_value("group", 1) == 1:
        node.set_attr("group", channels[1] // kernel[1])


def _move_negative_pads(node: Any) -> None:
    """Write what a transposed convolution does not reach as padding of the output, at the end as TensorFlow.

    tf2onnx writes half of what is missing as negative pads on either side.
    """
    pads = node.get_attr_value("pads")
    if pads and min(pads) < 0:
        sums = [
            begin + end for begin, end in zip(pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True)
        ]
        begins = [begin if total >= 0 else 0 for begin, total in zip(pads, sums, strict=False)]
        ends = [max(total, 0) - begin for begin, total in zip(begins, sums, strict=True)]
        node.set_attr("pads", [*begins, *ends])
        node.set_attr("output_padding", [max(-total, 0) for total in sums])


def _convert_with_one(graph: Any, node: Any, name: str, _args: Sequence[Any]) -> None:
    """Erfc(x) = 1 - Erf(x), for TensorFlow's exact Gelu; Expm1(x) = Exp(x) - 1, for its Celu."""
    dtype, shape = graph.get_dtype(node.output[0]), graph.get_shape(node.output[0])
    inner = {"Erfc": "Erf", "Expm1": "Exp"}[node.type]
    one = graph.make_const(f"{name}_one", np.ones((), helper.tensor_dtype_to_np_dtype(dtype))).output[0]
    graph.remove_node(name)
    value = graph.make_node(inner, node.input, shapes=[shape], dtypes=[dtype]).output[0]
    operands = [one, value] if inner == "Erf" else [value, one]
    graph.make_node("Sub", operands, name=name, outputs=node.output, shapes=[shape], dtypes=[dtype])


def _convert_bucketize(graph: Any, node: Any, name: str, _args: Sequence[Any]) -> None:
    """Bucketize(x) = how many boundaries are <= x; Keras' Discretization uses it."""
    dtype, shape = graph.get_dtype(node.input[0]), graph.get_shape(node.output[0])
    boundaries = np.array(node.get_attr_value("boundaries"), np.float32)
    graph.remove_node(name)
    value = node.input[0]
    if dtype != TensorProto.FLOAT:
        value = graph.make_node("Cast", [value], attr={"to": TensorProto.FLOAT}).output[0]
    last = graph.make_const(f"{name}_last", np.array([-1], np.int64)).output[0]
    limits = graph.make_const(f"{name}_boundaries", boundaries).output[0]
    spread = graph.make_node("Unsqueeze", [value, last]).output[0]
    below = graph.make_node("Not", graph.make_node("Less", [spread, limits]).output).output
    ones = graph.make_node("Cast", below, attr={"to": TensorProto.INT32}).output[0]
    graph.make_node(
        "ReduceSum",
        [ones, last],
        name=name,
        outputs=node.output,
        attr={"keepdims": 0},
        shapes=[shape],
        dtypes=[TensorProto.INT32],
    )


HANDLERS: dict[str, tuple[Any, list[Any]]] = {
    "Bucketize": (_convert_bucketize, []),
    "Erfc": (_convert_with_one, []),
    "Expm1": (_convert_with_one, []),
}
"""tf operator to what converts it."""
