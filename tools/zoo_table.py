"""The tables of tools/zoo.py as Markdown, from results that were measured before."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from tools.zoo_subject import Difference, Result

TITLES = {"keras": "Keras", "torch": "PyTorch"}
TOLERANCE = 1e-3
"""Largest difference that is still the rounding of a deep network, relative to the largest magnitude."""
COMPILED = {"keras": "tf.function", "torch": "torch.inference_mode"}
INTRODUCTION = """# The zoo: models exported, optimized, compared and timed

`python -m tools.zoo keras` and `python -m tools.zoo torch` measure these tables, each model in a process of
its own; `--save docs/zoo.md` makes this page and `docs/zoo.json`, which holds all that was measured.

The models are every constructor of keras.applications at its default input size, and the PyTorch models of
`tools/zoo_torch.py`. Their weights are random, the statistics of BatchNormalization too; the logits of the
Keras models are scaled to the order of ten. Inputs are signed; images for Keras have the magnitude that the
model's own preprocessing gives.

**Size and time.** Layers are Keras layers, or PyTorch modules without children; nodes and parameters are
those of the ONNX file before → after optimizing. The times are milliseconds for all inputs, one at a time,
the fastest of the passes of each variant: the framework's own call (`model.predict` with batch size 1, or
the module in eval mode), its fast one (`tf.function`, `torch.inference_mode`), and onnxruntime at its default
level on the exported and on the optimized file. All four take turns, forwards and backwards, with the same
number of threads, on a machine that does other work as well: compare within a row. *faster* is the time of
the framework's fast call over that of the optimized file, and in brackets the exported file's over the
optimized one's; the PyTorch models are small, so that much of their own time is overhead. Converting is
without the comparison that follows it, optimizing with its verification.

**Correctness.** The differences are those of the exported and the optimized file on onnxruntime's default
level from the framework's own answers on the same inputs: the largest and the mean, on the layer before the
final softmax and after it (the same where a model ends without one); in brackets relative to the largest
magnitude, and bold beyond a thousandth of it. *exported*: the verdict of the check that follows every export;
*optimized*: that of the verification after optimizing; *rolled back*: rewrites that the verification undid.
"""


def page(results: Sequence[Result]) -> str:
    """Return the whole page."""
    lines = [INTRODUCTION]
    for framework, title in TITLES.items():
        found = [result for result in results if result.framework == framework]
        if found:
            lines += [f"## {title}", "", *section(framework, found), ""]
    return "\n".join(lines)


def section(framework: str, results: Sequence[Result]) -> Iterator[str]:
    """Yield the lines about one framework: where they were measured, a summary and the tables."""
    measured = [result for result in results if not result.failure]
    yield from _setups(measured)
    if measured:
        yield from (summary(framework, results), "", *size_table(framework, measured), "")
        yield from (*difference_table(measured), "")
        yield from notes(measured)
    failed = [result for result in results if result.failure]
    if failed:
        yield from ("| failed | reason |", "|---|---|")
        yield from (f"| {result.name} | {_cell(result.failure)} |" for result in failed)


def summary(framework: str, results: Sequence[Result]) -> str:
    """Return in one sentence how many came through, and how fast they are."""
    measured = [result for result in results if not result.failure]
    right = sum(is_right(result) for result in measured)
    undone = sum(len(result.rolled_back) for result in measured)
    fast = _geometric_mean([_faster(result, "compiled") for result in measured])
    over = _geometric_mean([_faster(result, "onnx") for result in measured])
    return (
        f"{right} of {len(results)} models exported, optimized and right, {undone} rewrites rolled back; "
        f"geometric mean of the speed-up of the optimized file over {COMPILED[framework]} {fast:.2f}×, "
        f"over the exported file {over:.2f}×."
    )


def is_right(result: Result) -> bool:
    """Return whether both checks passed, and onnxruntime's default level keeps near the framework too."""
    near = all(found is not None and found.relative <= TOLERANCE for found in (result.logits, result.final))
    return near and result.parity == result.verification == "passed"


def size_table(framework: str, results: Sequence[Result]) -> Iterator[str]:
    """Yield the table of sizes and times."""
    sizes = ("model", "input", "layers", "nodes", "parameters")
    times = (
        "predict",
        COMPILED[framework],
        "onnxruntime",
        "optimized",
        "faster",
        "convert, s",
        "optimize, s",
    )
    yield from _head((*sizes, *times), left=2)
    for result in results:
        yield _row(
            result.name,
            result.input,
            f"{result.layers:,}",
            _change(*result.nodes),
            _change(*result.weights),
            *map(_milliseconds, result.seconds.values()),
            f"{_faster(result, 'compiled'):.2f}× ({_faster(result, 'onnx'):.2f}×)",
            f"{result.convert_seconds:.1f}",
            f"{result.optimize_seconds:.1f}",
        )


def difference_table(results: Sequence[Result]) -> Iterator[str]:
    """Yield the table of differences and verdicts."""
    heads = ("model", "exporter", "exported", "optimized", "rolled back", "logits max of the exported")
    yield from _head((*heads, "of the optimized", "mean", "final max", "mean"), left=4)
    for result in results:
        yield _row(
            result.name,
            result.exporter,
            result.parity,
            result.verification,
            "; ".join(result.rolled_back) or "0",
            _apart(result.exported_logits)[0],
            *_apart(result.logits),
            *_apart(result.final),
        )


def notes(results: Sequence[Result]) -> Iterator[str]:
    """Yield what the exporters had to say, each remark once."""
    said: dict[str, list[str]] = {}
    for result in results:
        for note in result.notes:
            said.setdefault(note, []).append(result.name)
    if said:
        yield from (*(f"- {note} ({', '.join(names)})" for note, names in said.items()), "")


def _setups(results: Sequence[Result]) -> Iterator[str]:
    def key(result: Result) -> tuple[str, int, int]:
        return result.setup, result.threads, result.images

    groups: Mapping[tuple[str, int, int], list[Result]] = {
        setup: list(group) for setup, group in groupby(sorted(results, key=key), key)
    }
    for (setup, threads, images), group in groups.items():
        days = sorted({result.day for result in group})
        passes = sorted({result.passes for result in group})
        which = f" ({', '.join(result.name for result in group)})" if len(groups) > 1 else ""
        yield f"Machine: {setup}.{which}"
        each = "one thread" if threads == 1 else f"{threads} threads"
        yield (
            f"{each.capitalize()} for each variant, {images} inputs one at a time, the fastest of "
            f"{_span(passes)} passes; {_span(days)}."
        )
        yield ""


def _span(values: Sequence[object]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"


def _head(names: Sequence[str], left: int) -> Iterator[str]:
    yield _row(*names)
    yield f"|{'---|' * left}{'---:|' * (len(names) - left)}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _change(before: int, after: int) -> str:
    return f"{before:,}" if before == after else f"{before:,} → {after:,}"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.0f}" if seconds >= 0.1 else f"{1000 * seconds:.3g}"


def _apart(found: Difference | None) -> tuple[str, str]:
    assert found is not None
    largest = f"{found.max_abs:.1e} ({found.relative:.1e})"
    return largest if found.relative <= TOLERANCE else f"**{largest}**", f"{found.mean_abs:.1e}"


def _faster(result: Result, variant: str) -> float:
    return result.seconds[variant] / result.seconds["optimized"]


def _geometric_mean(ratios: Sequence[float]) -> float:
    return math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
