"""Where the time of a model goes on onnxruntime, by its own profiler."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from fuseonnx.errors import BackendError
from fuseonnx.report import Document
from fuseonnx.runtime.assignment import Assignment
from fuseonnx.runtime.providers import CPU_PROVIDER, Backend
from fuseonnx.runtime.recording import WARMUP, Recording
from fuseonnx.runtime.session import Feeds
from fuseonnx.runtime.trace import Kernel, Run, runs_in

PRODUCTS = "Conv, Gemm, MatMul"
REORDERS = "layout reorders"
COPIES = "copies between devices"
OTHERS = "other operators"
OUTSIDE = "outside of operators"

_NOTABLE = 1.2
_KINDS = {
    PRODUCTS: re.compile("Conv|Gemm|MatMul|Attention"),  # fused and quantized ones are named after these
    REORDERS: re.compile("Reorder(Input|Output)$"),
    COPIES: re.compile("Memcpy(ToHost|FromHost)$"),
}

Place = tuple[tuple[str, int], ...]
"""Name and index of a node, behind those of the nodes in whose body it is."""


@dataclass(frozen=True)
class NodeTime:
    """One node of the graph that onnxruntime ran.

    Attributes:
        name: its name, `op_index` for a nameless node; behind those of the nodes in whose body it is and `/`.
        op: operator.
        provider: execution provider that ran it, by onnxruntime's name.
        calls: calls in one run; 0.5 for one in every other run.
        ms: milliseconds in one run, for If, Loop and Scan without those of the nodes in their bodies.
        share: of `Profile.ms`, from 0 to 1.
        inputs: types and shapes at the first call, such as `float[1,3,224,224]`.
        outputs: the same of the outputs.
    """

    name: str
    op: str
    provider: str
    calls: float
    ms: float
    share: float
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class GroupTime:
    """Nodes of one operator, or of one kind of them, added up; see `NodeTime` for the units."""

    name: str
    nodes: int
    calls: float
    ms: float
    share: float


@dataclass(frozen=True)
class Profile(Document):
    """Where the time of one model goes.

    Each time is the interquartile mean over the runs, so that an interruption by another process does not
    count; a run is the sum of its parts.

    Attributes:
        model: the model.
        onnxruntime: version.
        optimized: whether onnxruntime's graph optimizations were on.
        provider: onnxruntime's name of the execution provider that was asked for.
        provider_options: its options.
        assignment: where the nodes ran.
        threads: threads inside an operator; 0 is onnxruntime's own choice.
        inputs: input name to type and shape.
        runs: runs that were recorded after `warmup` others; as many followed without the profiler.
        warmup: runs that were left out.
        ms: milliseconds of a run under the profiler, which takes some microseconds a node.
        unprofiled_ms: milliseconds of the fastest run without it, as Python sees it.
        kinds: operators by kind, and last what onnxruntime and its profiler spent outside of operators.
            They add up to `ms`.
        ops: the nodes by operator, the slowest first.
        nodes: every node that ran, the slowest first; those of bodies included.
        notes: what the reader should know.
    """

    model: str
    onnxruntime: str
    optimized: bool
    provider: str
    provider_options: dict[str, str]
    assignment: str
    threads: int
    inputs: dict[str, str]
    runs: int
    warmup: int
    ms: float
    unprofiled_ms: float
    kinds: tuple[GroupTime, ...]
    ops: tuple[GroupTime, ...]
    nodes: tuple[NodeTime, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class OpChange:
    """One operator, or kind of them, in two models: nodes, and milliseconds in one run."""

    name: str
    nodes: tuple[int, int]
    ms: tuple[float, float]


@dataclass(frozen=True)
class ProfileDiff(Document):
    """Two models, run in turn in one process on the same inputs.

    Attributes:
        before: profile of the first.
        after: profile of the second.
        ratio: `unprofiled_ms` of the second over that of the first.
        kinds: see `Profile.kinds`.
        ops: by operator, the largest change of time first.
    """

    before: Profile
    after: Profile
    ratio: float
    kinds: tuple[OpChange, ...]
    ops: tuple[OpChange, ...]


def profile_of(
    recording: Recording,
    feeds: Feeds,
    backend: Backend,
    *,
    runs: int,
    optimized: bool,
    notes: Sequence[str] = (),
) -> Profile:
    """Return the profile that a recording of `runs` runs makes, with `notes` before its own.

    Raises:
        BackendError: the trace holds no run: onnxruntime keeps a million events.
    """
    import onnxruntime as ort

    name = recording.trace.name
    recorded = runs_in(recording.trace.events)[WARMUP:]
    if not recorded:
        raise BackendError(f"{name}: onnxruntime's profiler keeps too few events for one run of this model")
    calls, times = _times(recorded)
    outside = _typical_ms([each.outside_us for each in recorded])
    total = sum(times.values()) + outside
    nodes = sorted(
        (_node(place, kernels, times[place], total, len(recorded)) for place, kernels in calls.items()),
        key=_slowest_first,
    )
    kinds = {kind: [node for node in nodes if kind_of(node.op) == kind] for kind in (*_KINDS, OTHERS)}
    ops = {op: [node for node in nodes if node.op == op] for op in dict.fromkeys(node.op for node in nodes)}
    return Profile(
        model=name,
        onnxruntime=ort.__version__,
        optimized=optimized,
        provider=backend.provider.name,
        provider_options=dict(backend.provider.options),
        assignment=recording.assignment.summary(),
        threads=backend.threads,
        inputs={name: _described(value) for name, value in feeds.items()},
        runs=len(recorded),
        warmup=WARMUP,
        ms=total,
        unprofiled_ms=recording.unprofiled_ms,
        kinds=(
            *(_group(kind, members, total) for kind, members in kinds.items()),
            GroupTime(OUTSIDE, 0, 0, outside, outside / total),
        ),
        ops=tuple(sorted((_group(op, members, total) for op, members in ops.items()), key=_slowest_first)),
        nodes=tuple(nodes),
        notes=(
            *notes,
            *_placed(recording.assignment),
            *_notes(calls, len(recorded), runs),
            *_slowed(total, recording.unprofiled_ms),
        ),
    )


def _node(place: Place, kernels: Sequence[Kernel], ms: float, total: float, runs: int) -> NodeTime:
    first = kernels[0]
    return NodeTime(
        name="/".join(name for name, _ in place),
        op=first.op,
        provider=first.provider,
        calls=len(kernels) / runs,
        ms=ms,
        share=ms / total,
        inputs=first.inputs,
        outputs=first.outputs,
    )


def _notes(calls: Mapping[Place, Sequence[Kernel]], recorded: int, wanted: int) -> Iterator[str]:
    if recorded < wanted:
        yield f"{recorded} of {wanted} runs: onnxruntime's profiler keeps no more events"
    if any(len(place) > 1 for place in calls):
        yield "the time of If, Loop and Scan leaves out the nodes inside, but has what it took to record them"
    others = {kernels[0].provider for kernels in calls.values()} - {CPU_PROVIDER.name}
    if others:
        yield (
            f"{', '.join(sorted(others))}: a node's time is that of its launch; what the device does "
            "after that counts where it is waited for"
        )


def _placed(assignment: Assignment) -> Iterator[str]:
    """Yield what to say of nodes that ran elsewhere than asked for, or of the placement that decided it."""
    if assignment.fallen:
        yield assignment.summary()
    elif assignment.placement:
        yield assignment.placement


def _slowed(ms: float, unprofiled_ms: float) -> Iterator[str]:
    if ms > _NOTABLE * unprofiled_ms:
        factor = ms / unprofiled_ms
        yield f"the profiler makes a run {factor:.1f} times as long: small operators take less than it says"


def diff_of(before: Profile, after: Profile) -> ProfileDiff:
    """Return what is different between two profiles."""
    ops = sorted(_changes(before.ops, after.ops), key=lambda op: -abs(op.ms[1] - op.ms[0]))
    return ProfileDiff(
        before,
        after,
        after.unprofiled_ms / before.unprofiled_ms,
        tuple(_changes(before.kinds, after.kinds)),
        tuple(ops),
    )


def _times(runs: Sequence[Run]) -> tuple[dict[Place, list[Kernel]], dict[Place, float]]:
    """Return the calls of each node, and its milliseconds."""
    calls: dict[Place, list[Kernel]] = {}
    spent: dict[Place, list[int]] = {}
    for number, each in enumerate(runs):
        for place, kernel in _walk(each.kernels, ()):
            calls.setdefault(place, []).append(kernel)
            spent.setdefault(place, [0] * len(runs))[number] += kernel.own_us
    return calls, {place: _typical_ms(us) for place, us in spent.items()}


def _typical_ms(us: Sequence[int]) -> float:
    """Return the interquartile mean of microseconds, in milliseconds."""
    cut = len(us) // 4
    return fmean(sorted(us)[cut : len(us) - cut]) / 1000


def _walk(kernels: Iterable[Kernel], outer: Place) -> Iterator[tuple[Place, Kernel]]:
    """Yield each kernel with its place, those of bodies too."""
    for kernel in kernels:
        place = (*outer, (kernel.name, kernel.index))
        yield place, kernel
        yield from _walk(kernel.body, place)


def kind_of(op: str) -> str:
    """Return which kind of time an operator takes."""
    return next((kind for kind, pattern in _KINDS.items() if pattern.search(op)), OTHERS)


def _group(name: str, nodes: Sequence[NodeTime], total: float) -> GroupTime:
    ms = math.fsum(node.ms for node in nodes)
    return GroupTime(name, len(nodes), math.fsum(node.calls for node in nodes), ms, ms / total)


def _slowest_first(timed: NodeTime | GroupTime) -> float:
    return -timed.ms


def _changes(before: Sequence[GroupTime], after: Sequence[GroupTime]) -> list[OpChange]:
    old, new = ({group.name: group for group in groups} for groups in (before, after))
    nothing = GroupTime("", 0, 0, 0, 0)
    return [
        OpChange(name, (a.nodes, b.nodes), (a.ms, b.ms))
        for name in dict.fromkeys([*old, *new])
        for a, b in [(old.get(name, nothing), new.get(name, nothing))]
    ]


def _described(value: Any) -> str:
    if isinstance(value, list):
        return f"sequence({', '.join(map(_described, value))})"
    dtype = "string" if value.dtype.kind in "OSU" else value.dtype
    return f"{dtype}[{','.join(map(str, value.shape))}]"
