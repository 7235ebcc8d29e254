"""A benchmark as a picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuseonnx.errors import ModelSaveError, OptionError

if TYPE_CHECKING:
    from fuseonnx.runtime.benchmark import Benchmark, Point

SUFFIXES = (".png", ".svg")
_COLORS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2")
_TAIL = 95
"""Percentile at which the axis ends: what comes after it would leave the rest no room."""


def check_plot(path: Path) -> None:
    """Raise OptionError if a picture cannot be drawn or written there; to be asked before anything is run."""
    if path.suffix.lower() not in SUFFIXES:
        raise OptionError(f"{path}: a plot is a {' or '.join(SUFFIXES)} file")
    if not path.parent.is_dir():
        raise OptionError(f"{path}: there is no folder {path.parent}; create it first")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise OptionError(f"{path}: plots need matplotlib: pip install 'fuseonnx[plot]'") from None


def plot_benchmark(benchmark: Benchmark, path: Path) -> None:
    """Draw the latencies of the single runs, and the throughput where there are several batch sizes.

    The file is there whole or not at all.

    Raises:
        OptionError: as `check_plot`.
        ModelSaveError: the file cannot be written.
    """
    check_plot(path)
    from matplotlib.figure import Figure

    points = benchmark.points
    throughput = len(points) > 1
    count = len(points) + throughput
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(5 * columns, 3.6 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for each, point in zip(axes, points, strict=False):
        _distribution(each, benchmark, point)
    if throughput:
        _throughput(axes[len(points)], benchmark)
    for unused in axes[count:]:
        unused.set_visible(False)
    figure.suptitle(_conditions(benchmark), fontsize=9, color="#555555")
    draft = path.with_name(f".{path.name}.fuseonnx-{os.getpid()}")
    try:
        figure.savefig(draft, dpi=150, format=path.suffix[1:].lower())
        draft.replace(path)
    except OSError as error:
        raise ModelSaveError(f"{path}: cannot be written: {error.strerror}; name another file") from None
    finally:
        draft.unlink(missing_ok=True)


def _distribution(axes: Any, benchmark: Benchmark, point: Point) -> None:
    """Draw for each model which share of the runs took no longer than so many ms."""
    for number, (entrant, latency) in enumerate(zip(benchmark.models, point.latencies, strict=True)):
        ms = [1000 * seconds for seconds in latency.percentiles[: _TAIL + 1]]
        color = _COLORS[number % len(_COLORS)]
        label = f"{entrant.name}: {1000 * latency.p50:.3g} ms"
        if latency.ratio and latency.ratio.verdict != "no difference":
            label += f" ({latency.ratio.median:.2f})"
        axes.plot(ms, range(_TAIL + 1), color=color, label=label)
        axes.axvline(1000 * latency.p50, color=color, linewidth=0.8, linestyle=":")
    axes.set(ylim=(0, 100), xlabel="latency, ms", ylabel=f"% of runs no slower, up to {_TAIL}")
    axes.set_title("Latency" if point.batch is None else f"Latency at batch {point.batch}", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", fontsize=8, edgecolor="none")


def _throughput(axes: Any, benchmark: Benchmark) -> None:
    batches = [str(point.batch) for point in benchmark.points]
    for number, entrant in enumerate(benchmark.models):
        values = [point.latencies[number].throughput for point in benchmark.points]
        axes.plot(batches, values, marker="o", color=_COLORS[number % len(_COLORS)], label=entrant.name)
    axes.set_ylim(bottom=0)
    axes.set(xlabel="batch size", ylabel="items per second")
    axes.set_title("Throughput", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", fontsize=8, edgecolor="none")


def _conditions(benchmark: Benchmark) -> str:
    provider = benchmark.provider.removesuffix("ExecutionProvider")
    count = benchmark.threads
    threads = f", {count} thread{'s' * (count > 1)}" if count else ""
    return f"onnxruntime {benchmark.onnxruntime}, {provider}{threads}"
