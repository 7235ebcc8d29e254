"""The race of tools/bench_latency.py: open all files of a model, check the answers, let them take turns."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from fuseonnx.profiling import profile
from fuseonnx.runtime.profile import OTHERS, PRODUCTS, REORDERS, Profile
from fuseonnx.runtime.race import heats, race, ratio, settled
from fuseonnx.runtime.session import open_session
from tools.bench_latency_models import inputs_of
from tools.bench_latency_table import OURS, TARGETS, Entry, Left, Result
from tools.bench_optimize import PACKAGES, machine, versions

if TYPE_CHECKING:
    import onnxruntime

ORIGINAL = "original"
Times = list[list[float]]
Answers = Sequence[np.ndarray[Any, np.dtype[Any]]]

MIN_ROUNDS = 6
"""The fewest that give a confidence interval."""
LARGE_BYTES = 150_000_000
LOADS = 3
"""Of files that are too large to be opened again and again during the race."""
WIDTH = 0.01
"""A race ends early when all intervals are narrower."""
PROFILED_RUNS = 6
TOLERANCE = 1e-3
"""Largest difference of an answer, relative to the largest magnitude of the output."""
NOISE = 10
"""How many times further than the original at the default level an answer may be from the reference."""
SLOWEST = 5


def race_all(saved: Path, seconds: float, name: str, model: str, files: Mapping[str, str]) -> None:
    """Race the file of each tool against the model, and save the result; the work of a child process."""
    feeds = inputs_of(name, Path(model))
    failures = failures_of(model, files, feeds)
    paths = {ORIGINAL: model, **{tool: file for tool, file in files.items() if tool not in failures}}
    times, loads = _raced(list(paths.values()), feeds, seconds)
    entries = {
        tool: _entry(times[0], own, loads[0], loaded)
        for tool, own, loaded in zip(paths, times, loads, strict=True)
    }
    shapes = {key: "×".join(map(str, value.shape)) or "scalar" for key, value in feeds.items()}
    result = Result(
        name=name,
        input=", ".join(f"{key} {shape}" for key, shape in shapes.items()),
        original=entries.pop(ORIGINAL),
        entries=entries | {tool: Entry(failure=reason) for tool, reason in failures.items()},
        left=_left(paths, feeds, saved.with_suffix(".npz")) if name in TARGETS else {},
        rounds=len(times[0]),
        setup=f"{machine()}; Python {platform.python_version()}, {', '.join(versions(PACKAGES))}",
        day=datetime.now(UTC).date().isoformat(),
    )
    result.save(saved)


def _raced(paths: Sequence[str], feeds: Mapping[str, Any], seconds: float) -> tuple[Times, Times]:
    """Return the seconds of a run and those of opening, for each file and round; the model comes first.

    Sessions are opened anew for each round, since where weights lie in memory makes one faster than another;
    those of a large model are opened once.
    """
    enough = partial(settled, width=WIDTH)
    openers = [partial(_opened, path, feeds) for path in paths]
    if Path(paths[0]).stat().st_size > LARGE_BYTES:
        times = race([opener() for opener in openers], seconds=seconds, min_rounds=MIN_ROUNDS, enough=enough)
        return times, load_seconds(paths)
    found = heats(openers, seconds=seconds, min_rounds=MIN_ROUNDS, enough=enough)
    return found.times, found.opening if found.reopened else load_seconds(paths)


def _entry(
    original: Sequence[float], times: Sequence[float], first_load: Sequence[float], loads: Sequence[float]
) -> Entry:
    raced = ratio(original, times)
    return Entry(
        ratio=raced.median,
        low=raced.low,
        high=raced.high,
        milliseconds=1000 * median(times),
        load_ratio=ratio(first_load, loads).median,
        load_milliseconds=1000 * median(loads),
    )


def failures_of(model: str, files: Mapping[str, str], feeds: Mapping[str, Any]) -> dict[str, str]:
    """Return the tools whose file does not load, does not run or gives other answers, each with the reason.

    The reference is what the model answers with onnxruntime's optimizations off.
    """
    reference = open_session(Path(model)).run(None, feeds)
    by_default = _open(model).run(None, feeds)
    allowed = [max(TOLERANCE, NOISE * far) for far in distances(reference, by_default)]
    failures = {}
    for tool, file in files.items():
        try:
            reason = wrong(reference, _open(file).run(None, feeds), allowed)
        except Exception as error:  # onnxruntime's own classes share no base but Exception
            reason = f"does not load or run: {' '.join(str(error).split())[:200]}"
        if reason:
            failures[tool] = reason
    return failures


def distances(reference: Answers, found: Answers) -> list[float]:
    """Return the largest difference of each output, relative to the largest magnitude of the reference."""
    return [
        float(np.abs(right.astype(np.float64) - ours).max(initial=0))
        / max(float(np.abs(right).max(initial=0)), 1e-30)
        for right, ours in zip(reference, found, strict=True)
    ]


def wrong(reference: Answers, found: Answers, allowed: Sequence[float]) -> str:
    """Return why answers are not the reference's, or "" if they are."""
    if [(x.shape, x.dtype) for x in reference] != [(x.shape, x.dtype) for x in found]:
        return "wrong: other shapes or dtypes"
    for index, (far, limit) in enumerate(zip(distances(reference, found), allowed, strict=True)):
        if not far <= limit:  # NaN, too
            return f"wrong: output {index} is {far:.1e} off, relative to its magnitude"
    return ""


def load_seconds(paths: Sequence[str]) -> list[list[float]]:
    """Return, for each file, how long onnxruntime took to open it in each round, forwards or backwards."""
    times: list[list[float]] = [[] for _ in paths]
    for number in range(LOADS):
        for index in list(range(len(paths)))[:: -1 if number % 2 else 1]:
            start = time.perf_counter()
            session = _open(paths[index])
            times[index].append(time.perf_counter() - start)
            del session
    return times


def _opened(path: str, feeds: Mapping[str, Any]) -> Callable[[], object]:
    return partial(_open(path).run, None, feeds)


def _open(path: str) -> onnxruntime.InferenceSession:
    """Open a file as people do, on one thread: the CPU provider, the default optimization level."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _left(paths: Mapping[str, str], feeds: Mapping[str, Any], samples: Path) -> dict[str, Left]:
    """Return where the time of the original goes, and that of our files; keep the inputs in `samples`."""
    np.savez(samples, **feeds)
    return {
        tool: _left_of(profile(paths[tool], runs=PROFILED_RUNS, samples=samples, threads=1))
        for tool in (ORIGINAL, *OURS)
        if tool in paths
    }


def _left_of(found: Profile) -> Left:
    kinds = {kind.name: kind for kind in found.kinds}
    slowest = [f"{op.name} {op.share:.0%}" for op in found.ops[:SLOWEST]]
    return Left(kinds[PRODUCTS].share, kinds[OTHERS].share, kinds[REORDERS].nodes, slowest)
