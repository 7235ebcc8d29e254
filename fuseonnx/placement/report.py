"""What `place` has to say about a model: the one source of its tables, its JSON and its picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from fuseonnx.placement.assign import Decision, Device
from fuseonnx.placement.blocks import Block, blocks_of
from fuseonnx.placement.copies import Copy, copies_of
from fuseonnx.placement.graph import Graph, Node
from fuseonnx.placement.solve import Cost, total
from fuseonnx.report import Document, RuleUse

PINNED = "pinned"
CHEAPER = "cheaper beside its neighbours"


@dataclass(frozen=True)
class PlacedNode:
    """Where a node of the main graph runs; bodies and functions go with the node that holds or calls them.

    Attributes:
        name: its name, or if it has none that of its first result.
        op_type: its operator, with its domain before it where that is not ONNX's.
        by_itself: where onnxruntime runs it if nothing is written into the model.
        device: where it is placed.
        reason: why onnxruntime would not run it on the GPU, or why it is placed elsewhere than there.
        block: number of its block, None if it computes a shape beside them.
    """

    name: str
    op_type: str
    by_itself: Device
    device: Device
    reason: str
    block: int | None


@dataclass(frozen=True)
class Hop:
    """A copy between the devices, made by a Memcpy node in every run.

    Attributes:
        value: name of the value.
        source: the device that makes it.
        target: the device that reads it.
        nbytes: its size.
        from_block: number of the block that makes it, None for an input of the graph.
        to_block: number of the first block that reads it.
    """

    value: str
    source: Device
    target: Device
    nbytes: int
    from_block: int | None
    to_block: int | None


@dataclass(frozen=True)
class BlockSummary:
    """Nodes that run one after the other on a device.

    Attributes:
        device: where.
        nodes: how many.
        ops: operator to how many of its nodes, most frequent first.
        first: name of the first node.
        last: name of the last one.
    """

    device: Device
    nodes: int
    ops: dict[str, int]
    first: str
    last: str


@dataclass(frozen=True)
class Layout:
    """One way to place the nodes of a model, constants not counted.

    Attributes:
        nodes: device to number of nodes.
        blocks: in the order of a run with the fewest changes of device.
        hops: the copies of a run, the largest first.
        copied_bytes: bytes that they copy.
        fed_bytes: bytes of the inputs that are fed to the GPU, and of the outputs fetched from there.
        seconds: what a run costs by the cost model, which only serves to compare placements.
    """

    nodes: dict[Device, int]
    blocks: tuple[BlockSummary, ...]
    hops: tuple[Hop, ...]
    copied_bytes: int
    fed_bytes: int
    seconds: float


@dataclass(frozen=True)
class Placement(Document):
    """Which device runs which node of a model, and what that costs.

    Attributes:
        model: its name.
        output: the file that the placement was written to, None if it was not.
        provider: onnxruntime's name of the provider on the GPU.
        fuseonnx_version: who placed it.
        nodes: the nodes of the main graph in its order, without constants.
        by_itself: what onnxruntime does if nothing is written into the model.
        placed: what is proposed.
        settings: `session.layer_assignment_settings` for a session with the annotated model.
        rewrites: the rules that made operators without a kernel on the GPU into others.
        notes: what the reader should know.
    """

    model: str
    output: str | None
    provider: str
    fuseonnx_version: str
    nodes: tuple[PlacedNode, ...]
    by_itself: Layout
    placed: Layout
    settings: str
    rewrites: tuple[RuleUse, ...] = ()
    notes: tuple[str, ...] = ()


def placed_nodes(
    graph: Graph, decisions: Sequence[Decision], devices: Sequence[Device], pinned: Container[int]
) -> tuple[PlacedNode, ...]:
    """Return where the nodes of `graph` run and why, those left out that are constants."""
    block_of = _numbers(blocks_of(graph, devices, copies_of(graph, devices)))
    return tuple(
        PlacedNode(
            label(node),
            node.operator,
            decision.device,
            device,
            _reason(decision, device, is_pinned=node.index in pinned),
            block_of.get(node.index),
        )
        for node, decision, device in zip(graph.nodes, decisions, devices, strict=True)
        if not node.is_constant
    )


def layout_of(graph: Graph, devices: Sequence[Device], cost: Cost) -> Layout:
    """Return what it means to run node i of `graph` on `devices[i]`."""
    copies = copies_of(graph, devices)
    blocks = blocks_of(graph, devices, copies)
    counts = Counter(devices[node.index] for node in graph.nodes if not node.is_constant)
    return Layout(
        nodes={"cpu": counts["cpu"], "gpu": counts["gpu"]},
        blocks=tuple(_summary(block, graph) for block in blocks),
        hops=_hops(graph, devices, copies, _numbers(blocks)),
        copied_bytes=sum(copy.nbytes for copy in copies),
        fed_bytes=_fed_bytes(graph, devices, {copy.value for copy in copies}),
        seconds=total(graph, devices, cost) / 1e9,
    )


def label(node: Node) -> str:
    """Return what to call a node that may have no name."""
    return node.name or next((f"({name})" for name in node.outputs if name), "")


def _reason(decision: Decision, device: Device, *, is_pinned: bool) -> str:
    if device == decision.device:
        return decision.reason
    if is_pinned:
        return PINNED
    return decision.reason if device == "cpu" and decision.reason else CHEAPER


def _numbers(blocks: Sequence[Block]) -> dict[int, int]:
    return {index: number for number, block in enumerate(blocks) for index in block.nodes}


def _summary(block: Block, graph: Graph) -> BlockSummary:
    nodes = [graph.nodes[index] for index in block.nodes]
    ops = dict(Counter(node.operator for node in nodes).most_common())
    return BlockSummary(block.device, len(nodes), ops, label(nodes[0]), label(nodes[-1]))


def _hops(
    graph: Graph, devices: Sequence[Device], copies: Sequence[Copy], block_of: Mapping[int, int]
) -> tuple[Hop, ...]:
    maker = {name: node.index for node in graph.nodes for name in node.outputs}
    hops = []
    for copy in copies:
        readers = _readers(graph, devices, copy.value, copy.target)
        numbers = [block_of[index] for index in readers if index in block_of]
        made_in = block_of.get(maker[copy.value]) if copy.value in maker else None
        hops.append(
            Hop(copy.value, copy.source, copy.target, copy.nbytes, made_in, min(numbers, default=None))
        )
    return tuple(sorted(hops, key=lambda hop: -hop.nbytes))


def _readers(graph: Graph, devices: Sequence[Device], value: str, device: Device) -> list[int]:
    """Return the nodes that read a value in the memory of a device."""
    return [
        index
        for index in graph.users.get(value, ())
        for position, name in enumerate(graph.nodes[index].inputs)
        if name == value
        and device == ("cpu" if position in graph.nodes[index].host_inputs else devices[index])
    ]


def _fed_bytes(graph: Graph, devices: Sequence[Device], copied: Container[str]) -> int:
    nodes_on_gpu = [node for node in graph.nodes if devices[node.index] == "gpu"]
    captured = {name for node in nodes_on_gpu for name in node.captures}
    on_gpu = {
        name
        for node in nodes_on_gpu
        for position, name in enumerate(node.outputs)
        if position not in node.host_outputs
    }
    return sum(
        value.nbytes
        for name, value in graph.values.items()
        if name not in copied
        and not value.is_initializer
        and (
            (value.is_output and name in on_gpu)
            or (value.is_input and (name in captured or _readers(graph, devices, name, "gpu")))
        )
    )
