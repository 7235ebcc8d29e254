"""The copies between CPU and GPU memory that onnxruntime inserts for a placement.

Rule (core/optimizer/transformer_memcpy.cc of onnxruntime): a value made on one side and read on the other is
copied once, whatever the number of its readers, and so is an input of the graph that both sides read. An
initializer is duplicated instead; what the body of a node captures is copied when that node runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fuseonnx.placement.assign import Device
from fuseonnx.placement.graph import Graph


@dataclass(frozen=True)
class Copy:
    """A Memcpy node: every run copies the value from one memory to the other.

    Attributes:
        value: name of the value.
        source: the device that makes it; `cpu` for an input of the graph.
        target: the device that reads it.
        nbytes: its size in bytes; unknown dims count as 1.
    """

    value: str
    source: Device
    target: Device
    nbytes: int


def copies_of(graph: Graph, devices: Sequence[Device]) -> tuple[Copy, ...]:
    """Return the copies that a run makes where node i is on `devices[i]`, by their first readers.

    A value that only a fetch or a feed moves is none: onnxruntime copies it without a node.
    """
    made: dict[str, Device] = {}
    read: dict[str, set[Device]] = {}
    for node, device in zip(graph.nodes, devices, strict=True):
        if node.is_constant:  # onnxruntime folds it before it places anything
            continue
        for position, name in enumerate(node.outputs):
            made[name] = "cpu" if position in node.host_outputs else device
        for position, name in enumerate(node.inputs):
            read.setdefault(name, set()).add("cpu" if position in node.host_inputs else device)
    copies = []
    for name, readers in read.items():
        value = graph.values.get(name)
        if value is None or value.is_initializer or (value.is_input and len(readers) == 1):
            continue
        source = made.get(name, "cpu")
        copies += [Copy(name, source, target, value.nbytes) for target in readers - {source}]
    return tuple(copies)
