"""The blocks of a placement: nodes of one device that run without a change of device between them.

Conv ─ Relu ─ Conv ─ Sigmoid ─┐                          block 0, GPU
─────────────────────────── copy ──────────────────
                              └─ NonMaxSuppression ─ …   block 1, CPU
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Container, Sequence
from dataclasses import dataclass

from fuseonnx.placement.assign import Device
from fuseonnx.placement.copies import Copy
from fuseonnx.placement.graph import Graph, Node


@dataclass(frozen=True)
class Block:
    """Nodes that run one after the other on a device.

    Attributes:
        device: where they run.
        nodes: their indices, in the order of the model.
    """

    device: Device
    nodes: tuple[int, ...]


def blocks_of(graph: Graph, devices: Sequence[Device], copies: Sequence[Copy]) -> tuple[Block, ...]:
    """Return the blocks of the order of the nodes in which the device changes least often.

    Constants, and nodes that compute shapes without waiting for a copy, belong to no block: they run on the
    CPU while the GPU goes on.

    Args:
        graph: the graph.
        devices: the device of each node.
        copies: the copies that these devices make.
    """
    copied = {copy.value for copy in copies}
    lanes = [
        None if _is_beside(node, graph, copied) else device
        for node, device in zip(graph.nodes, devices, strict=True)
    ]
    return min(_scheduled(graph, lanes, "gpu"), _scheduled(graph, lanes, "cpu"), key=len)


def _is_beside(node: Node, graph: Graph, copied: Container[str]) -> bool:
    if node.is_constant:
        return True
    makes_shapes = all(graph.values[name].is_shape for name in node.outputs if name)
    return makes_shapes and not any(name in copied for name in node.inputs)


def _scheduled(graph: Graph, lanes: Sequence[Device | None], first: Device) -> tuple[Block, ...]:
    """Return the blocks if each takes every node that can run, and `first` is the device to begin with."""
    users, missing = _dependencies(graph)
    queues: dict[Device | None, deque[int]] = {None: deque(), "cpu": deque(), "gpu": deque()}
    for node in graph.nodes:
        if not missing[node.index]:
            queues[lanes[node.index]].append(node.index)
    blocks: list[Block] = []
    running: list[int] = []
    device, other = first, _other(first)
    while any(queues.values()) or running:
        queue = queues[None] or queues[device]
        if not queue:
            if running:
                blocks.append(Block(device, tuple(sorted(running))))
            running, device, other = [], other, device
            continue
        index = queue.popleft()
        if lanes[index] is not None:
            running.append(index)
        for user in users[index]:
            missing[user] -= 1
            if not missing[user]:
                queues[lanes[user]].append(user)
    return tuple(blocks)


def _dependencies(graph: Graph) -> tuple[dict[int, list[int]], list[int]]:
    """Return the nodes that wait for each node, and for how many nodes each waits."""
    makers = {name: node.index for node in graph.nodes for name in node.outputs if name}
    users: dict[int, list[int]] = defaultdict(list)
    missing = [0] * len(graph.nodes)
    for node in graph.nodes:
        waits_for = {makers[name] for name in (*node.inputs, *node.captures) if name in makers}
        missing[node.index] = len(waits_for)
        for maker in waits_for:
            users[maker].append(node.index)
    return users, missing


def _other(device: Device) -> Device:
    return "cpu" if device == "gpu" else "gpu"
