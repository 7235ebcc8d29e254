"""Latency, throughput, loading and memory of models on the same inputs, raced against the first of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from fuseonnx.errors import BackendError
from fuseonnx.report import Document
from fuseonnx.runtime.assignment import assignment_of
from fuseonnx.runtime.binding import call_of
from fuseonnx.runtime.memory import Memory, measure_memory
from fuseonnx.runtime.providers import CPU_PROVIDER, Backend
from fuseonnx.runtime.race import Call, Heats, Ratio, heats, ratio, settled
from fuseonnx.runtime.session import Feeds, open_session

SECONDS = 5.0
TIGHT = 0.02
"""A race ends early when every interval is narrower than this, relative to the ratio."""


@dataclass(frozen=True)
class Latency:
    """How long single runs of a model took, all rounds together and warm-up left out.

    Attributes:
        runs: how many there were.
        mean: seconds.
        p50: median, in seconds.
        p90: 90th percentile, in seconds.
        p99: 99th percentile, in seconds; close to the slowest where there are fewer than a hundred runs.
        percentiles: all of them from the 0th to the 100th, in seconds: the fastest run to the slowest.
        throughput: what one stream of runs answers in a second: batch size (1 if there is none) / p50,
            which the other work of a shared machine disturbs less than the mean.
        ratio: to the first model, by the medians of each round; None for the first model itself.
    """

    runs: int
    mean: float
    p50: float
    p90: float
    p99: float
    percentiles: tuple[float, ...]
    throughput: float
    ratio: Ratio | None


@dataclass(frozen=True)
class Point:
    """All models on inputs of one size.

    Attributes:
        batch: size of axis 0 of the inputs, None where they have none in common.
        inputs: input name to type and shape, such as `float32[1,3,224,224]`.
        latencies: one for each model.
        reopened: whether each round opened the models anew. Two sessions of the same model can differ by
            1 to 2 %, by where its memory happens to lie; only when they are opened anew is that a part of the
            interval.
    """

    batch: int | None
    inputs: dict[str, str]
    latencies: tuple[Latency, ...]
    reopened: bool


@dataclass(frozen=True)
class Entrant:
    """What one model takes beside the time of its runs.

    Attributes:
        name: the model.
        load_seconds: median time to open a session, the file in the page cache.
        load_ratio: to the first model; None for the first model itself.
        memory: of a process of its own, None where the system does not tell.
        assignment: where its nodes run.
    """

    name: str
    load_seconds: float
    load_ratio: Ratio | None
    memory: Memory | None
    assignment: str


@dataclass(frozen=True)
class Benchmark(Document):
    """Models on the same inputs.

    Attributes:
        models: the first is what the others are compared with.
        points: one for each batch size.
        provider: onnxruntime's name of the execution provider.
        provider_options: its options.
        threads: threads inside an operator; 0 is onnxruntime's own choice.
        onnxruntime: version.
        notes: what the reader should know.
    """

    models: tuple[Entrant, ...]
    points: tuple[Point, ...]
    provider: str
    provider_options: dict[str, str]
    threads: int
    onnxruntime: str
    notes: tuple[str, ...] = ()


def benchmark(
    models: Mapping[str, Path],
    inputs: Sequence[tuple[int | None, Feeds]],
    backend: Backend,
    *,
    seconds: float = SECONDS,
    notes: Sequence[str] = (),
    on_progress: Callable[[str], None] = lambda _stage: None,
) -> Benchmark:
    """Race models at onnxruntime's default optimization level.

    Args:
        models: name to file; what is compared with the first.
        inputs: batch size (None where there is none) and inputs of each race; at least one, which every model
            must accept. Memory is measured on the first.
        backend: where to run.
        seconds: how long to race, for each model and batch size.
        notes: what the reader should know beside what is found here.
        on_progress: told what is being done.

    Raises:
        BackendError: a model cannot be loaded or run.
    """
    import onnxruntime as ort

    paths = list(models.values())
    memories = []
    for name, path in models.items():
        on_progress(f"memory of {name}")
        memories.append(measure_memory(path, backend, inputs[0][1]))
    assignments: dict[Path, str] = {}
    races = []
    for batch, feeds in inputs:
        on_progress("race" if batch is None else f"race at batch {batch}")
        races.append(_race(paths, feeds, backend, seconds, assignments))
    points = [_point(batch, feeds, found) for (batch, feeds), found in zip(inputs, races, strict=True)]
    entrants = [
        Entrant(name, median(opening), _to_first(races[0].opening, number), memory, assignments[models[name]])
        for number, (name, opening, memory) in enumerate(zip(models, races[0].opening, memories, strict=True))
    ]
    return Benchmark(
        tuple(entrants),
        tuple(points),
        backend.provider.name,
        dict(backend.provider.options),
        backend.threads,
        ort.__version__,
        (*notes, *_notes(points, backend)),
    )


def _race(
    paths: Sequence[Path], feeds: Feeds, backend: Backend, seconds: float, assignments: dict[Path, str]
) -> Heats:
    """Race the models; note in `assignments` where their nodes run."""

    def opened(path: Path) -> Call:
        session = open_session(path, backend, optimized=True)
        if path not in assignments:
            assignments[path] = assignment_of(session).summary()
        return call_of(session, feeds, backend)

    enough = partial(settled, width=TIGHT) if len(paths) > 1 else None
    try:
        return heats([partial(opened, path) for path in paths], seconds=seconds, enough=enough)
    except BackendError:
        raise
    except Exception as error:  # onnxruntime's own classes share no base but Exception
        raise BackendError(f"{', '.join(map(str, paths))}: {str(error).splitlines()[0]}") from None


def _point(batch: int | None, feeds: Feeds, found: Heats) -> Point:
    latencies = []
    for number, rounds in enumerate(found.runs):
        runs = list(chain.from_iterable(rounds))
        mean, percentiles = fmean(runs), np.percentile(runs, range(101)).tolist()
        latencies.append(
            Latency(
                runs=len(runs),
                mean=mean,
                p50=percentiles[50],
                p90=percentiles[90],
                p99=percentiles[99],
                percentiles=tuple(percentiles),
                throughput=(batch or 1) / percentiles[50],
                ratio=_to_first(found.times, number),
            )
        )
    inputs = {name: described(value) for name, value in feeds.items()}
    return Point(batch, inputs, tuple(latencies), found.reopened)


def _to_first(times: Sequence[Sequence[float]], number: int) -> Ratio | None:
    return ratio(times[0], times[number]) if number else None


def _notes(points: Sequence[Point], backend: Backend) -> list[str]:
    notes = []
    if not all(point.reopened for point in points):
        notes.append(
            "sessions were opened only once, because loading takes so long: two of the same model can then"
            " differ by 1 to 2 %; a larger --seconds opens them anew in each round"
        )
    if backend.provider.name != CPU_PROVIDER.name:
        notes.append("memory is that of the process, what lies on the device is not in it")
    return notes


def described(value: Any) -> str:
    """Return dtype and shape of an input such as `float32[1,3,224,224]`, or how many of them a list has."""
    if isinstance(value, list):
        return f"{len(value)} x {described(value[0])}" if value else "empty list"
    return f"{value.dtype}[{','.join(map(str, value.shape))}]"
