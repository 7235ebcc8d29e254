"""Traces as onnxruntime writes them: which kernel ran inside which, and what one that is cut off gives."""

from __future__ import annotations

from typing import Any

import pytest

from fuseonnx.errors import BackendError
from fuseonnx.runtime.assignment import Assignment
from fuseonnx.runtime.profile import profile_of
from fuseonnx.runtime.providers import CPU
from fuseonnx.runtime.recording import WARMUP, Recording
from fuseonnx.runtime.trace import Event, Trace, runs_in


def event(name: str, ts: int, dur: int) -> dict[str, Any]:
    if name == "model_run" or name.startswith("Seq"):
        return {"cat": "Session", "name": name, "ts": ts, "dur": dur, "ph": "X", "args": {}}
    shapes: list[dict[str, list[int]]] = [{"float": [2, 3]}]
    args = {"op_name": "Op", "provider": "P", "node_index": "0"}
    types = {"input_type_shape": shapes, "output_type_shape": shapes}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": {**args, **types}}


def recorded(events: list[Event], unprofiled_ms: float = 1.0) -> Recording:
    return Recording(Trace("m.onnx", 0, events), unprofiled_ms, Assignment("CPUExecutionProvider", ()))


def test_the_kernel_that_ends_after_a_body_has_it_unless_it_began_later() -> None:
    body = "SequentialExecutor::Execute"
    events = [event("before", 1, 9)]
    events += [event("a", 22, 3), event("b", 26, 3), event(body, 21, 9)]  # first turn
    events += [event("a", 32, 4), event("b", 37, 2), event(body, 31, 8)]  # second turn
    events += [event("loop", 20, 25), event("after", 50, 5), event(body, 1, 56), event("model_run", 0, 60)]
    (run,) = runs_in([*events, event("cut off", 70, 1)])
    assert [kernel.name for kernel in run.kernels] == ["before", "loop", "after"]
    assert [kernel.name for kernel in run.kernels[1].body] == ["a", "b", "a", "b"]
    assert run.outside_us == 60 - (9 + 25 + 5)
    assert run.kernels[1].own_us == 25 - (3 + 3 + 4 + 2)


def test_a_trace_that_is_cut_off_is_told() -> None:
    whole = [event("a", 1, 9), event("SequentialExecutor::Execute", 1, 10), event("model_run", 0, 12)]
    cut = recorded([*whole * (WARMUP + 2), event("a", 1, 9)])
    found = profile_of(cut, {}, CPU, runs=20, optimized=True)
    assert found.runs == 2
    assert found.notes[0] == "2 of 20 runs: onnxruntime's profiler keeps no more events"
    with pytest.raises(BackendError, match=r"^m\.onnx: onnxruntime's profiler keeps too few events"):
        profile_of(recorded(whole * WARMUP), {}, CPU, runs=20, optimized=True)


def test_a_provider_other_than_the_cpus_comes_with_a_warning() -> None:
    whole = [event("a", 1, 9), event("SequentialExecutor::Execute", 1, 10), event("model_run", 0, 12)]
    found = profile_of(recorded(whole * (WARMUP + 1)), {}, CPU, runs=1, optimized=True)
    assert [note.partition(":")[0] for note in found.notes] == ["P"]
    assert found.nodes[0].provider == "P"


@pytest.mark.parametrize(("unprofiled_ms", "notes"), [(10.5, 0), (4.0, 1)])
def test_a_profiler_that_takes_much_itself_is_told(unprofiled_ms: float, notes: int) -> None:
    run = [
        event("a", 1000, 9000),
        event("SequentialExecutor::Execute", 1000, 9500),
        event("model_run", 0, 12000),
    ]
    found = profile_of(recorded(run * (WARMUP + 1), unprofiled_ms), {}, CPU, runs=1, optimized=True)
    assert (found.ms, found.unprofiled_ms) == (12.0, unprofiled_ms)
    said = "the profiler makes a run 3.0 times as long: small operators take less than it says"
    assert list(found.notes[1:]) == [said] * notes
