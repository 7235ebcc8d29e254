"""onnxruntime's profile, which is a Chrome trace: the runs in it, their kernels, and the file for a viewer.

onnxruntime writes an event when it ends, so that what ran inside comes first: the kernels of a body of
If/Loop/Scan, then `SequentialExecutor::Execute` of that body, then the kernel of If/Loop/Scan itself; at last
`model_run` for the whole. Times are whole microseconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Event = dict[str, Any]
"""One entry of a Chrome trace."""

_KERNEL = "_kernel_time"


@dataclass
class Kernel:
    """One call of an operator."""

    name: str
    index: int
    """Of the node in its graph."""
    op: str
    provider: str
    inputs: tuple[str, ...]
    """Types and shapes, such as `float[1,3,224,224]`."""
    outputs: tuple[str, ...]
    us: int
    """Microseconds, the body's included."""
    body: list[Kernel] = field(default_factory=list)
    """What ran inside, for If, Loop and Scan."""

    @property
    def own_us(self) -> int:
        """Microseconds without those of the body."""
        return self.us - sum(kernel.us for kernel in self.body)


@dataclass(frozen=True)
class Run:
    """One call of the session: its microseconds, and the kernels of the main graph in order."""

    us: int
    kernels: list[Kernel]

    @property
    def outside_us(self) -> int:
        """Microseconds outside of kernels."""
        return self.us - sum(kernel.us for kernel in self.kernels)


@dataclass(frozen=True)
class Trace:
    """What onnxruntime recorded of one session: events whose `ts` count from `start_ns`."""

    name: str
    start_ns: int
    events: list[Event]


def runs_in(events: Iterable[Event]) -> list[Run]:
    """Return the runs that are complete, in order."""
    runs: list[Run] = []
    ended: list[tuple[int, Kernel]] = []  # kernels, with their start, of graphs that still run
    bodies: list[tuple[int, Kernel]] = []  # of graphs that ran to their end, with the start of the graph
    for event in events:
        start = event["ts"]
        if event["cat"] == "Node" and event["name"].endswith(_KERNEL):
            inside, bodies = _since(start, bodies)
            ended.append((start, _kernel(event, inside)))
        elif event["name"] == "SequentialExecutor::Execute":
            inside, ended = _since(start, ended)
            bodies += [(start, kernel) for kernel in inside]
        elif event["name"] == "model_run":
            inside, bodies = _since(start, bodies)
            runs.append(Run(event["dur"], inside))
    return runs


def _since(start: int, kernels: list[tuple[int, Kernel]]) -> tuple[list[Kernel], list[tuple[int, Kernel]]]:
    """Return the kernels from `start` on, and the others with their own start."""
    return [kernel for at, kernel in kernels if at >= start], [each for each in kernels if each[0] < start]


def write_trace(path: Path, traces: Sequence[Trace]) -> None:
    """Write one Chrome trace, each session as a process of its own, on one time axis.

    The file is there whole or not at all. Raises OSError when it cannot be written.
    """
    draft = path.with_name(f".{path.name}.fuseonnx-{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write("[\n")
            file.write(",\n".join(map(json.dumps, _joined(traces))))
            file.write("\n]\n")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _joined(traces: Sequence[Trace]) -> Iterator[Event]:
    first = min(trace.start_ns for trace in traces)
    for pid, trace in enumerate(traces, 1):
        yield {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": trace.name}}
        shift = (trace.start_ns - first) // 1000
        for event in trace.events:
            yield {**event, "pid": pid, "ts": event["ts"] + shift}


def _kernel(event: Event, body: list[Kernel]) -> Kernel:
    args = event["args"]
    return Kernel(
        name=event["name"].removesuffix(_KERNEL),
        index=int(args["node_index"]),
        op=args["op_name"],
        provider=args["provider"],
        inputs=_types(args["input_type_shape"]),
        outputs=_types(args["output_type_shape"]),
        us=event["dur"],
        body=body,
    )


def _types(shapes: Sequence[dict[str, list[int]]]) -> tuple[str, ...]:
    return tuple(f"{dtype}[{','.join(map(str, dims))}]" for shape in shapes for dtype, dims in shape.items())
