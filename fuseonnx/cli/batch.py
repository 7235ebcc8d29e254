"""Optimizes models one by one, each in a process of its own when there are several."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuseonnx.cli.console import INTERRUPTED, describe
from fuseonnx.cli.jobs import Job
from fuseonnx.report import Report
from fuseonnx.targets import Target

if TYPE_CHECKING:
    from fuseonnx.runtime.providers import Backend

Shapes = dict[str, tuple[int, ...]]

_ends: list[int] = []
"""An entry for each time that this process, one of a batch, was told to end."""


@dataclass(frozen=True)
class Settings:
    """What `fuseonnx.api.optimize` is told besides the model and the output."""

    only: tuple[str, ...]
    skip: tuple[str, ...]
    verify: bool
    measure: bool
    target: Target
    backend: Backend
    input_shapes: Shapes
    fix_shapes: Shapes
    samples: str | None
    external_data: bool
    in_place: bool
    export: dict[str, Any]
    """Keyword arguments for a model that is not ONNX: those of `fuseonnx.ExportOptions`."""


@dataclass(frozen=True)
class Outcome:
    """A report, or the one-line reason why there is none."""

    job: Job
    report: Report | None = None
    error: str = ""


def optimize_one(job: Job, settings: Settings, on_progress: Callable[[str], None]) -> Report:
    """Optimize one model in this process; errors are those of `fuseonnx.api.optimize`."""
    from fuseonnx.api import optimize

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        output = None if settings.in_place else job.output
        keywords = {**vars(settings), **settings.export, **vars(settings.backend)}
        del keywords["export"], keywords["backend"]
        result = optimize(job.source, output, on_progress=on_progress, **keywords)
    return result.report


def optimize_all(jobs: Sequence[Job], settings: Settings, processes: int) -> Iterator[Outcome]:
    """Yield the outcome of each job, in their order; none of them stops the others.

    A crash (of a native library, or for want of memory) takes down only the process of its own model.
    """
    with tempfile.NamedTemporaryFile(prefix="fuseonnx-") as lock, ThreadPoolExecutor(processes) as lanes:
        pending = [lanes.submit(_isolated, job, settings, Path(lock.name)) for job in jobs]
        try:
            for future in pending:
                yield future.result()
        except BaseException:
            lanes.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def _isolated(job: Job, settings: Settings, lock_file: Path) -> Outcome:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_begin, initargs=(lock_file,)) as process:
        try:
            return process.submit(_guarded, job, settings).result()
        except BrokenProcessPool:
            return Outcome(job, error=f"{job.source}: the process died; the model may need more memory")


def _guarded(job: Job, settings: Settings) -> Outcome:
    try:
        job.output.parent.mkdir(parents=True, exist_ok=True)
        return Outcome(job, optimize_one(job, settings, _go_on))
    except Exception as error:
        message, source = describe(error, str(job.source)), str(job.source)
        return Outcome(job, error=message if message.startswith(source) else f"{source}: {message}")


def _begin(lock_file: Path) -> None:
    """Leave Ctrl-C to the parent, clean up when it ends this process, and measure when no sibling does."""
    from fuseonnx import stopwatch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    stopwatch.lock_file = lock_file


def _end(number: int, _frame: object) -> None:
    _ends.append(number)
    sys.exit(INTERRUPTED)


def _go_on(_stage: str) -> None:
    """Let no stage begin after an end that got lost, as one does in a callback of Python's imports."""
    if _ends:
        sys.exit(INTERRUPTED)
