"""Run models under onnxruntime's profiler, and again without it: it slows them down."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fuseonnx.errors import BackendError, OptionError
from fuseonnx.runtime.assignment import Assignment, assignment_of
from fuseonnx.runtime.providers import Backend
from fuseonnx.runtime.session import Feeds, open_session, run
from fuseonnx.runtime.signature import Signature
from fuseonnx.runtime.trace import Trace

if TYPE_CHECKING:
    import onnxruntime

WARMUP = 3
"""Runs before the ones that count."""


@dataclass(frozen=True)
class Recording:
    """One model under the profiler.

    Attributes:
        trace: what the profiler wrote.
        unprofiled_ms: milliseconds of the fastest run without the profiler, Python included.
        assignment: where the nodes ran.
    """

    trace: Trace
    unprofiled_ms: float
    assignment: Assignment


def record(
    models: Sequence[tuple[str, Path]],
    feeds: Feeds,
    backend: Backend,
    *,
    runs: int,
    optimized: bool,
    on_progress: Callable[[str], None],
) -> list[Recording]:
    """Run models, given as (name, file), in turn, under the profiler and then as often without it.

    The trace has `WARMUP` runs more than `runs`. Raises BackendError when a model cannot be loaded, or not
    run on `feeds`, and OptionError when the models have not the same inputs.
    """
    names = [name for name, _ in models]
    with tempfile.TemporaryDirectory(prefix="fuseonnx-", ignore_cleanup_errors=True) as folder:
        sessions = []
        for number, (_, path) in enumerate(models):
            on_progress(f"load {path.name}")
            profile_to = Path(folder) / str(number)
            sessions.append(open_session(path, backend, optimized=optimized, profile_to=profile_to))
        require_same_inputs(names, sessions)
        on_progress("run under the profiler")
        _take_turns(names, sessions, feeds, WARMUP + runs)
        traces = [_trace(name, session) for name, session in zip(names, sessions, strict=True)]
        on_progress("run without the profiler")
        bare = _take_turns(names, sessions, feeds, runs)
    return [
        Recording(trace, 1000 * min(seconds), assignment_of(session))
        for trace, seconds, session in zip(traces, bare, sessions, strict=True)
    ]


def require_same_inputs(names: Sequence[str], sessions: Sequence[onnxruntime.InferenceSession]) -> None:
    """Raise OptionError if a model has not the inputs, by name and type, that the first has."""
    first, *others = ({port.name: port.type for port in Signature.of(session).inputs} for session in sessions)
    for name, other in zip(names[1:], others, strict=True):
        if other != first:
            raise OptionError(
                f"{name}: its inputs are {_ports(other)}, those of {names[0]} {_ports(first)};"
                " only models with the same inputs can be compared"
            )


def _ports(ports: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {kind}" for name, kind in ports.items()) or "none"


def _take_turns(
    names: Sequence[str], sessions: Sequence[onnxruntime.InferenceSession], feeds: Feeds, runs: int
) -> list[list[float]]:
    """Run every session `runs` times, A B, B A, and so on; return the seconds of each run of each."""
    seconds: list[list[float]] = [[] for _ in sessions]
    turns = list(zip(names, sessions, seconds, strict=True))
    for turn in range(runs):
        for name, session, taken in turns[:: -1 if turn % 2 else 1]:
            started = time.perf_counter()
            try:
                run(session, feeds)
            except BackendError as error:
                raise BackendError(f"{name}: does not run on these inputs: {error}") from None
            taken.append(time.perf_counter() - started)
    return seconds


def _trace(name: str, session: onnxruntime.InferenceSession) -> Trace:
    """End the profiling of a session and return what it recorded."""
    start_ns = session.get_profiling_start_time_ns()
    return Trace(name, start_ns, json.loads(Path(session.end_profiling()).read_bytes()))
