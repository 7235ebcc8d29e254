"""What the reader of a placement should know: guessed sizes, pins that cannot be obeyed, traps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fuseonnx.errors import OptionError
from fuseonnx.placement.assign import Decision, Device
from fuseonnx.placement.graph import Graph
from fuseonnx.placement.report import label


def notes_on(
    graph: Graph,
    decisions: Sequence[Decision],
    devices: Sequence[Device],
    pinned: Mapping[int, Device],
    model: str,
) -> Iterator[str]:
    """Yield the notes on a placement of the nodes of `graph`.

    Raises:
        OptionError: because of pins, an initializer that the caller may override is read on both devices.
    """
    yield from _disobeyed(graph, decisions, devices, pinned)
    yield from _divided_defaults(graph, devices, pinned, model)
    unknown = [value.name for value in graph.values.values() if value.dims is None or None in value.dims]
    if unknown:
        yield (
            f"{len(unknown)} values have dimensions that are not known, which count as 1 ({unknown[0]}, ...);"
            " --input-shape tells those of inputs"
        )


def _disobeyed(
    graph: Graph, decisions: Sequence[Decision], devices: Sequence[Device], pinned: Mapping[int, Device]
) -> Iterator[str]:
    for index, device in pinned.items():
        if devices[index] != device and not graph.nodes[index].is_constant:
            node = graph.nodes[index]
            reason = decisions[index].reason or "the CPU has no kernel"
            yield f"{label(node)} cannot be pinned to the {device.upper()}: {reason}"


def _divided_defaults(
    graph: Graph, devices: Sequence[Device], pinned: Mapping[int, Device], model: str
) -> Iterator[str]:
    """onnxruntime gives what the caller feeds to one device only, and the other computes with the default."""
    for value in graph.values.values():
        users = graph.users.get(value.name, ())
        if not (value.is_initializer and value.is_input) or len({devices[user] for user in users}) < 2:
            continue
        if not pinned.keys().isdisjoint(users):
            raise OptionError(
                f"{model}: the nodes that read input '{value.name}' have to be pinned to one device, or"
                " onnxruntime gives some of them its default even where it is fed"
            )
        yield (
            f"do not feed input '{value.name}': nodes on both devices read it, and onnxruntime would leave its"
            " default to some of them"
        )
