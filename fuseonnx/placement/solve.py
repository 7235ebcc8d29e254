"""The placement that costs least: a minimum cut.

Every node is on the CPU's side of the cut or on the GPU's. A node costs its time on the device that it runs
on; a value costs one copy if one device makes it and the other needs it, however many nodes there need it:

    maker ── copy ──► (on the GPU) ══► each user        each user ══► (on the CPU) ── copy ──► maker

Constants are on both devices. Inputs of the graph are fed to the device that needs them, and outputs fetched
from where they are, so they cost a copy only if both devices need them. What a GPU kernel reads in CPU memory
(shapes, axes, conditions) is needed by the CPU, whatever device the node is on. Results that a body captures
are needed where the node is that holds it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from fuseonnx.analysis.mincut import SINK, SOURCE, UNBOUNDED, Network
from fuseonnx.analysis.stats import MULTIPLYING
from fuseonnx.placement.assign import DATA_DEPENDENT, Decision, Device
from fuseonnx.placement.graph import Graph, Node, Value

_CPU, _GPU = SOURCE, SINK
_VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Shape", "Size", "Squeeze", "Unsqueeze"})
_FUSED = frozenset({("Conv", "BatchNormalization"), ("MatMul", "Add")})
"""What onnxruntime fuses before it places nodes, where the first has no other user."""


@dataclass(frozen=True)
class Cost:
    """How fast two devices and the way between them are: a roofline per device, and copies.

    To start a node takes a few microseconds on either device and does not count. The defaults are round
    numbers for a data-centre GPU on PCIe 4 and a few cores of its host; only their ratios matter.

    Attributes:
        cpu_flops: operations per second on the CPU.
        cpu_bandwidth: bytes per second that it reads or writes.
        gpu_flops: operations per second on the GPU.
        gpu_bandwidth: bytes per second that it reads or writes.
        gpu_wait: seconds until the CPU knows how large a result became; NonMaxSuppression waits once per
            batch entry and class.
        copy_latency: seconds that the smallest copy between the devices takes.
        copy_bandwidth: bytes per second between the devices.
    """

    cpu_flops: float = 1e11
    cpu_bandwidth: float = 2e10
    gpu_flops: float = 1e13
    gpu_bandwidth: float = 1e12
    gpu_wait: float = 1e-4
    copy_latency: float = 2e-5
    copy_bandwidth: float = 1e10

    def copying(self, nbytes: int) -> int:
        """Return the nanoseconds that a copy between the devices takes."""
        return round(1e9 * (self.copy_latency + nbytes / self.copy_bandwidth))

    def running(self, node: Node, graph: Graph, device: Device) -> int:
        """Return the nanoseconds that a node takes on a device; what only renames data takes none."""
        if node.is_constant or (node.op_type in _VIEWS and not node.domain):
            return 0
        if device == "cpu":
            work = max(node.flops / self.cpu_flops, node.nbytes / self.cpu_bandwidth)
            return round(1e9 * work)
        work = max(node.flops / self.gpu_flops, node.nbytes / self.gpu_bandwidth)
        return round(1e9 * (work + self.gpu_wait * _waits(node, graph)))


def place_best(
    graph: Graph,
    decisions: Sequence[Decision],
    pinned: Mapping[int, Device],
    cost: Cost,
) -> tuple[Device, ...]:
    """Return the device of each node with which a run costs least.

    Of placements that cost the same, it is the one that differs least from what onnxruntime does by itself.

    Some nodes have no choice: those that only one device has a kernel for, then those in `pinned`, then
    those that onnxruntime leaves to the CPU because they compute shapes, and those that hold bodies or whose
    work is unknown (where onnxruntime puts them), unless it is that of finishing a result whose size depends
    on data. Nodes stay together that read a default which the caller may override, because onnxruntime gives
    the new data to one device only, and those that it fuses before it places them.

    Args:
        graph: the graph.
        decisions: what onnxruntime does by itself, for each node.
        pinned: devices by index of the node.
        cost: what copies and work cost.
    """
    fixed = _fixed(graph, decisions, pinned)
    network = Network()
    unit = len(graph.nodes) + 1  # of cost; less than that is what another device than onnxruntime's costs
    for node, decision in zip(graph.nodes, decisions, strict=True):
        if node.index in fixed:
            on_cpu, on_gpu = (0, UNBOUNDED) if fixed[node.index] == "cpu" else (UNBOUNDED, 0)
        else:
            on_cpu = cost.running(node, graph, "cpu") * unit + (decision.device == "gpu")
            on_gpu = cost.running(node, graph, "gpu") * unit + (decision.device == "cpu")
        network.join(_CPU, node.index, max(on_gpu - on_cpu, 0))
        network.join(node.index, _GPU, max(on_cpu - on_gpu, 0))
    for way in _ways(graph):
        way.join(network, cost.copying(way.value.nbytes) * unit)
    for together in _inseparable(graph, fixed):
        for index in together[1:]:
            network.join(together[0], index, UNBOUNDED, UNBOUNDED)
    on_cpu_side = network.source_side()
    return tuple("cpu" if node.index in on_cpu_side else "gpu" for node in graph.nodes)


def total(graph: Graph, devices: Sequence[Device], cost: Cost) -> int:
    """Return the nanoseconds that a run with these devices costs: the work of the nodes, and the copies."""
    work = sum(cost.running(node, graph, devices[node.index]) for node in graph.nodes)
    return work + sum(cost.copying(way.value.nbytes) for way in _ways(graph) if way.is_copied(devices))


@dataclass(frozen=True)
class _Way:
    """A value on its way from where it is made to where it is needed.

    Attributes:
        value: the value.
        maker: the node that makes it, None if that leaves it in CPU memory, its name if it is an input.
        users: the nodes that need it on their own device.
        is_read_on_cpu: whether the CPU needs it in any case.
    """

    value: Value
    maker: int | str | None
    users: tuple[int, ...]
    is_read_on_cpu: bool

    def is_copied(self, devices: Sequence[Device]) -> bool:
        """Whether it has to be copied."""
        places = {devices[user] for user in self.users}
        if self.is_read_on_cpu or self.maker is None:
            places.add("cpu")
        if isinstance(self.maker, int):
            places.add(devices[self.maker])
        return len(places) > 1

    def join(self, network: Network, price: int) -> None:
        """Let a copy cost `price`."""
        maker = _CPU if self.maker is None else self.maker
        if len(self.users) == 1 and not self.is_read_on_cpu:
            network.join(maker, self.users[0], price, price)
            return
        on_cpu, on_gpu = (_CPU if self.is_read_on_cpu else (self.value.name, "cpu")), (self.value.name, "gpu")
        network.join(on_cpu, maker, price)
        network.join(maker, on_gpu, price)
        for user in self.users:
            network.join(user, on_cpu, UNBOUNDED)
            network.join(on_gpu, user, UNBOUNDED)


def _ways(graph: Graph) -> Iterator[_Way]:
    """Yield the values that may have to be copied: those that are read, and no constants."""
    makers: dict[str, int | str | None] = {
        name: None if position in node.host_outputs else node.index
        for node in graph.nodes
        for position, name in enumerate(node.outputs)
    }
    users: dict[str, dict[int, None]] = defaultdict(dict)
    read_on_cpu: set[str] = set()
    for node in graph.nodes:
        for position, name in enumerate(() if node.is_constant else node.inputs):
            if position in node.host_inputs:
                read_on_cpu.add(name)
            else:
                users[name][node.index] = None
        for name in filter(makers.__contains__, node.captures):
            users[name][node.index] = None
    for name, value in graph.values.items():
        if not value.is_initializer and (name in users or name in read_on_cpu):
            yield _Way(value, makers.get(name, name), tuple(users[name]), name in read_on_cpu)


def _fixed(graph: Graph, decisions: Sequence[Decision], pinned: Mapping[int, Device]) -> dict[int, Device]:
    """Return the devices of the nodes that have no choice."""
    fixed: dict[int, Device] = {}
    follows_data: set[str] = set()
    for node, decision in zip(graph.nodes, decisions, strict=True):
        if _depends_on_data(node) or not follows_data.isdisjoint(node.inputs):
            follows_data.update(filter(None, node.outputs))
        is_shape = decision.device == "cpu" and all(
            graph.values[name].is_shape for name in node.outputs if name
        )
        may_be_large = node.op_type in MULTIPLYING or follows_data.isdisjoint(node.outputs)
        if decision.is_forced:
            fixed[node.index] = decision.device
        elif node.index in pinned:
            fixed[node.index] = pinned[node.index]
        elif is_shape or node.bodies or node.is_function or (may_be_large and not node.is_counted):
            fixed[node.index] = decision.device
    return fixed


def _inseparable(graph: Graph, fixed: Mapping[int, Device]) -> Iterator[tuple[int, ...]]:
    """Yield nodes that have to be on one device, and can be."""
    for value in graph.values.values():
        users = graph.users.get(value.name, ())
        is_default = value.is_initializer and value.is_input
        if is_default and len({fixed[user] for user in users if user in fixed}) < 2:
            yield users
    for node in graph.nodes:
        users = graph.users.get(node.outputs[0], ()) if node.outputs else ()
        if len(users) == 1 and not graph.values[node.outputs[0]].is_output:
            pair = (node.index, users[0])
            if (node.op_type, graph.nodes[users[0]].op_type) in _FUSED and fixed.keys().isdisjoint(pair):
                yield pair


def _depends_on_data(node: Node) -> bool:
    return not node.domain and node.op_type in DATA_DEPENDENT


def _waits(node: Node, graph: Graph) -> int:
    """Return how often the CPU waits for the GPU to know the size of a result."""
    if not _depends_on_data(node):
        return 0
    if node.op_type != "NonMaxSuppression":
        return 1
    batch_and_classes = (graph.values[node.inputs[1]].dims or ())[:2]
    return prod(1 if dim is None else dim for dim in batch_and_classes)
