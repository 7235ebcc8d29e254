"""What tf2onnx gets wrong around its operators, one function each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


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
