"""The placement that a model carries, as `fuseonnx place` wrote it, and which nodes it keeps on the CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import onnx

from fuseonnx.core.graph import proto_bodies_of
from fuseonnx.io.load import read_weightless
from fuseonnx.io.wire import FileBytes, WireError, metadata
from fuseonnx.placement.annotate import (
    LAYER_ANNOTATION,
    PROVIDER_KEY,
    SETTINGS_KEY,
    device_by_annotation,
)
from fuseonnx.runtime.provider_options import TensorrtOptions
from fuseonnx.runtime.providers import CPU_PROVIDER

_ON_CPU = {"cpu", CPU_PROVIDER.name}


@dataclass(frozen=True)
class Carried:
    """A placement for one provider.

    Attributes:
        settings: what `session.layer_assignment_settings` is to be, nothing if there is no placement to obey.
        note: what the reader of a report should know about it.
    """

    settings: str = ""
    note: str = ""


def carries_placement(model: Path) -> bool:
    """Whether the file `model` holds a placement."""
    return SETTINGS_KEY in _metadata(model)


def carried_placement(model: Path, provider: str) -> Carried:
    """Return the placement in the file `model`, as far as `provider` can obey it.

    TensorRT obeys its own alone: onnxruntime would not offer to CUDA what TensorRT cannot run. A file that
    cannot be read has none; what is wrong with it is for onnxruntime to say.
    """
    known = _metadata(model)
    settings, made_for = known.get(SETTINGS_KEY, ""), known.get(PROVIDER_KEY, provider)
    if not settings:
        return Carried()
    maker = made_for.removesuffix("ExecutionProvider")
    if made_for == provider:
        return Carried(settings, "runs with the placement that it carries")
    if provider == TensorrtOptions.provider:
        return Carried("", f"runs without the placement that it carries, which was made for {maker}")
    return Carried(settings, f"runs with the placement that it carries, which was made for {maker}")


def kept_on_cpu(model: Path, nodes: Sequence[tuple[str, str, str]]) -> list[bool]:
    """Return which nodes of a session run on the CPU because the placement in the file `model` says so.

    A node that onnxruntime made has the name of a node of the model and more, and counts as that. Any other
    node that is not in the model is kept if all that are in it are.

    Args:
        model: the file that the session was made of.
        nodes: name, operator and provider of each node.
    """
    state = model.stat()
    kept = _read_kept(model, state.st_mtime_ns, state.st_size)
    left = Counter(kept.nameless)
    result = []
    for name, operator, provider in nodes:
        if provider != CPU_PROVIDER.name:
            result.append(False)
        elif not name:
            result.append(left[operator] > 0)
            left[operator] -= 1
        elif name in kept.named:
            result.append(kept.named[name])
        else:
            origin = max(filter(name.startswith, kept.named), key=len, default="")
            result.append(kept.named.get(origin, kept.all))
    return result


@dataclass(frozen=True)
class _Kept:
    """Which annotated nodes stay on the CPU: by name, by operator how many without name, and whether all."""

    named: Mapping[str, bool]
    nameless: Mapping[str, int]
    all: bool


def _metadata(model: Path) -> dict[str, str]:
    try:
        with model.open("rb") as file:
            return metadata(FileBytes(file.fileno()))
    except (OSError, WireError):
        return {}


@lru_cache(maxsize=8)
def _read_kept(model: Path, _modified: int, _size: int) -> _Kept:
    proto = read_weightless(model)
    settings = next((entry.value for entry in proto.metadata_props if entry.key == SETTINGS_KEY), "")
    devices = device_by_annotation(settings)
    named: dict[str, bool] = {}
    nameless: Counter[str] = Counter()
    everything = True
    for node, annotation in _annotated(proto.graph.node, ""):
        on_cpu = devices.get(annotation) in _ON_CPU
        everything &= on_cpu
        if node.name:
            named[node.name] = on_cpu and named.get(node.name, True)
        elif on_cpu:
            nameless[node.op_type] += 1
    return _Kept(named, nameless, everything)


def _annotated(nodes: Iterable[onnx.NodeProto], inherited: str) -> Iterator[tuple[onnx.NodeProto, str]]:
    """Yield the nodes that have an annotation, or are in the body of one that has."""
    for node in nodes:
        own = (entry.value for entry in node.metadata_props if entry.key == LAYER_ANNOTATION)
        annotation = next(own, inherited)
        if annotation:
            yield node, annotation
        for body in proto_bodies_of(node):
            yield from _annotated(body.node, annotation)
