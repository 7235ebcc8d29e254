"""What onnxruntime does by itself with a graph, a GPU provider and the CPU.

A provider takes the nodes that it has kernels for, but leaves those to the CPU whose operands are small and
lie in CPU memory already, such as what follows from a Shape (source: onnxruntime's
core/framework/fallback_cpu_capability.cc and the CUDA provider's `GetCapability`; WebGPU's does the same).
What it has no kernel for goes to the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from fuseonnx.placement.graph import Graph, Node
from fuseonnx.placement.kernels import Kernels, is_expanded

Device = Literal["cpu", "gpu"]

DATA_DEPENDENT = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})
"""Operators the size of whose result depends on the data: on a GPU, the CPU waits until it is known."""

_STAYS_ON_GPU = frozenset(
    {"float16", "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"}
)
_SMALL_INITIALIZER = 100
"""Elements."""


@dataclass(frozen=True)
class Decision:
    """Where onnxruntime runs a node.

    Attributes:
        device: the provider's device, or the CPU.
        reason: why it is not the GPU, or what is special about it there; "" if nothing is.
        is_forced: whether no other device has a kernel.
        left: operators in its bodies, or in the function that it calls, that the provider has no kernel for.
    """

    device: Device
    reason: str = ""
    is_forced: bool = False
    left: tuple[str, ...] = ()


def decide(graph: Graph, kernels: Kernels, provider: str) -> tuple[Decision, ...]:
    """Return where onnxruntime runs each node of `graph`, if nothing is written into the model.

    Raises:
        OptionError: `kernels` has no table for `provider`.
    """
    refusals = [_refusal(node, kernels, provider) for node in graph.nodes]
    small = _prefers_cpu(graph, refusals)
    return tuple(
        replace(
            _decision(node, refusal, graph, kernels, on_cpu_data=node.index in small),
            left=tuple(dict.fromkeys(_left(node.inner, kernels, provider))),
        )
        for node, refusal in zip(graph.nodes, refusals, strict=True)
    )


def _left(nodes: Iterable[Node], kernels: Kernels, provider: str) -> Iterator[str]:
    """Yield the operators among nodes, and in those, that run on the CPU for want of a kernel."""
    for node in nodes:
        is_gone = node.op_type == "Constant" or node.is_function
        is_gone |= is_expanded(node) and bool(kernels.refuses("cpu", node))
        if not is_gone and _refusal(node, kernels, provider):
            yield node.operator
        yield from _left(node.inner, kernels, provider)


def _decision(node: Node, refusal: str, graph: Graph, kernels: Kernels, *, on_cpu_data: bool) -> Decision:
    depends_on_data = not node.domain and node.op_type in DATA_DEPENDENT
    if node.is_constant:
        return Decision("gpu", "constant")
    if refusal:
        cpu_refusal = kernels.refuses("cpu", node)
        if is_expanded(node) and (cpu_refusal or node.is_function):
            return Decision("gpu", "onnxruntime expands it")
        return Decision("cpu", refusal + (", data-dependent" if depends_on_data else ""), is_forced=True)
    if on_cpu_data:
        is_shape = all(graph.values[name].is_shape for name in node.outputs if name)
        return Decision("cpu", "computes a shape" if is_shape else "its operands are on the CPU")
    reason = "data-dependent: the CPU waits for the size" if depends_on_data else ""
    return Decision("gpu", reason, is_forced=bool(kernels.refuses("cpu", node)))


def _refusal(node: Node, kernels: Kernels, provider: str) -> str:
    """Return why a provider does not take a node, in words that name both."""
    refusal, label = kernels.refuses(provider, node), provider.removesuffix("ExecutionProvider").upper()
    if refusal == "no kernel":
        return f"no {label} kernel for {node.op_type}"
    if refusal:
        return refusal.replace("no kernel", f"no {label} kernel")
    limit = _CUDA_LIMITS.get(node.op_type) if label == "CUDA" and not node.domain else None
    return limit(node) if limit is not None else ""


def _prefers_cpu(graph: Graph, refusals: list[str]) -> set[int]:
    """Return the indices of nodes that a kernel exists for, but that onnxruntime leaves to the CPU."""
    on_cpu: set[str] = set()
    preferred: set[int] = set()
    for node, refusal in zip(graph.nodes, refusals, strict=True):
        if node.is_constant:
            continue
        reached = any(name in on_cpu for name in (*node.inputs, *node.captures))
        if refusal:
            if reached:
                on_cpu.update(node.outputs)
        elif reached and all(_leaves(node, position, graph, on_cpu) for position in range(len(node.inputs))):
            preferred.add(node.index)
            on_cpu.update(node.outputs)
        else:
            on_cpu.update(node.outputs[position] for position in node.host_outputs)
    return preferred


def _leaves(node: Node, position: int, graph: Graph, on_cpu: set[str]) -> bool:
    """Whether an operand lets a node run on the CPU; an input of the graph does, however large it is."""
    if not node.inputs[position]:
        return True
    value = graph.values[node.inputs[position]]
    if value.dtype in _STAYS_ON_GPU:
        return False
    if value.is_input or (value.is_initializer and _elements(value.dims) <= _SMALL_INITIALIZER):
        return True
    return value.name in on_cpu and position not in node.host_inputs


def _elements(dims: tuple[int | None, ...] | None) -> int:
    return prod(dim or 0 for dim in dims or ())


def _conv_transpose_limit(node: Node) -> str:
    auto_pad, pads = node.attributes.get("auto_pad"), node.attributes.get("pads")
    is_same = auto_pad is not None and auto_pad.as_string() in ("SAME_UPPER", "SAME_LOWER")
    ints = [] if pads is None else list(pads.as_ints())
    half = len(ints) // 2
    return "CUDA's ConvTranspose pads both sides alike" if is_same or ints[:half] != ints[half:] else ""


def _recurrent_limit(*activations: str) -> Callable[[Node], str]:
    """The CUDA kernels are cuDNN's: fixed activations, no clip, peephole or coupled gates."""

    def limit(node: Node) -> str:
        given = node.attributes
        wanted = [] if "activations" not in given else list(given["activations"].as_strings())
        reasons = {
            "activation parameters": not given.keys().isdisjoint({"activation_alpha", "activation_beta"}),
            "clip": "clip" in given,
            "other activations": any(
                name.lower() != known for name, known in zip(wanted, activations, strict=False)
            ),
            "input_forget": "input_forget" in given and given["input_forget"].as_int() != 0,
            "linear_before_reset=0": "linear_before_reset" in given
            and given["linear_before_reset"].as_int() != 1,
            "peephole weights": node.op_type == "LSTM" and bool("".join(node.inputs[7:])),
        }
        found = [reason for reason, is_so in reasons.items() if is_so]
        return f"CUDA's {node.op_type} has no {found[0]}" if found else ""

    return limit


_CUDA_LIMITS: dict[str, Callable[[Node], str]] = {
    "ConvTranspose": _conv_transpose_limit,
    "GRU": _recurrent_limit("sigmoid", "tanh", "sigmoid", "tanh"),
    "LSTM": _recurrent_limit("sigmoid", "tanh", "tanh", "sigmoid", "tanh", "tanh"),
    "RNN": _recurrent_limit("tanh", "tanh"),
}
