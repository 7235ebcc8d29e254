"""The placement that costs least: a minimum cut.

Every node is on the CPU's side of the cut or on the GPU's. A node costs its time on the device that it runs
on; a value costs one copy if one device makes it and the other needs it, however many nodes there need it:

    producer ── copy ──► (needed by the CPU) ══► each user      user ══► (needed by the GPU) ── copy ──► producer

Inputs of the graph come from the CPU and outputs go there. Constants are on both devices, and what a GPU
kernel reads in CPU memory (shapes, axes, conditions) is needed by the CPU, whatever device the node is on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from fuseonnx.analysis.mincut import SINK, SOURCE, UNBOUNDED, Network
from fuseonnx.analysis.stats import MULTIPLYING
from fuseonnx.placement.assign import DATA_DEPENDENT, Decision, Device
from fuseonnx.placement.graph import Graph, Node, Value

_CPU, _GPU = SOURCE, SINK
_VIEWS = frozenset(
    {"Constant", "Flatten", "Identity", "Reshape", "Shape", "Size", "Squeeze", "Unsqueeze"}
)
_FUSED = frozenset({("Conv", "BatchNormalization"), ("MatMul", "Add")})
"""What onnxruntime fuses before it places nodes, where the first has no other user."""


@dataclass(frozen=True)
class Cost:
    """How fast two devices and the way between them are: a roofline per device, fixed costs in seconds.

    The defaults are round numbers for a data-centre GPU on PCIe 4 and a few cores of its host. Only their
    ratios matter, and those by orders of magnitude.

    Attributes:
        cpu_flops: operations per second on the CPU.
        cpu_bandwidth: bytes per second that it reads or writes.
        cpu_call: of starting a node.
        gpu_flops: operations per second on the GPU.
        gpu_bandwidth: bytes per second that it reads or writes.
        gpu_launch: of starting a node.
        gpu_wait: until the CPU knows how large a result became; NonMaxSuppression waits once per batch entry
            and class.
        copy_latency: of one copy between the devices.
        copy_bandwidth: bytes per second.
    """

    cpu_flops: float = 1e11
    cpu_bandwidth: float = 2e10
    cpu_call: float = 2e-6
    gpu_flops: float = 1e13
    gpu_bandwidth: float = 1e12
    gpu_launch: float = 5e-6
    gpu_wait: float = 3e-5
    copy_latency: float = 2e-5
    copy_bandwidth: float = 1e10

    def copying(self, nbytes: int) -> int:
        """Return the nanoseconds that a copy between the devices takes."""
        return round(1e9 * (self.copy_latency + nbytes / self.copy_bandwidth))

    def running(self, node: Node, graph: Graph, device: Device) -> int:
        """Return the nanoseconds that a node takes on a device; what only renames data takes none."""
        if node.op_type in _VIEWS and not node.domain:
            return 0
        if device == "cpu":
            work = max(node.flops / self.cpu_flops, node.nbytes / self.cpu_bandwidth)
            return round(1e9 * (self.cpu_call + work))
        work = max(node.flops / self.gpu_flops, node.nbytes / self.gpu_bandwidth)
        return round(1e9 * (self.gpu_launch + work + self.gpu_wait * _waits(node, graph)))


def place_best(
    graph: Graph,
    decisions: Sequence[Decision],
    pinned: Mapping[int, Device],
    cost: Cost,
) -> tuple[Device, ...]:
    """Return the device of each node with which a run costs least; the GPU where both cost the same.

    Some nodes have no choice: those that only one device has a kernel for, then those in `pinned`, then
    those that compute shapes (CPU), and those whose work is unknown and may be large, or that hold bodies
    (where onnxruntime puts them). Nodes stay together that read a default the caller may override, of which
    onnxruntime would override one copy only, and those that it fuses before it places them.

    Args:
        graph: the graph.
        decisions: what onnxruntime does by itself, for each node.
        pinned: devices by index of the node.
        cost: what copies and work cost.
    """
    network = Network()
    fixed = fixed_devices(graph, decisions, pinned)
    for node in graph.nodes:
        if node.index in fixed:
            _fix(network, node.index, fixed[node.index])
        else:
            on_cpu, on_gpu = (cost.running(node, graph, device) for device in ("cpu", "gpu"))
            if on_cpu > on_gpu:
                network.join(node.index, _GPU, on_cpu - on_gpu)
            elif on_gpu > on_cpu:
                network.join(_CPU, node.index, on_gpu - on_cpu)
    producers = {name: node for node in graph.nodes for name in node.outputs}
    for value in graph.values.values():
        if not value.is_initializer:
            _add_copy(network, value, producers.get(value.name), graph, cost.copying(value.nbytes))
    for together in _inseparable(graph):
        free = [index for index in together if index not in fixed] or together[:1]
        devices = {fixed[index] for index in together if index in fixed}
        for index in free[1:]:
            network.join(free[0], index, UNBOUNDED, UNBOUNDED)
        if len(devices) == 1 and free[0] not in fixed:
            _fix(network, free[0], devices.pop())
    on_cpu_side = network.source_side()
    return tuple(
        fixed.get(node.index, "cpu" if node.index in on_cpu_side else "gpu") for node in graph.nodes
    )
