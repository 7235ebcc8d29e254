"""The tables of tools/bench_latency.py as Markdown, from results that were measured before."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from fuseonnx.targets import Target

OURS: Mapping[str, Target] = {"fuseonnx": "portable", "fuseonnx --target cpu": "cpu"}
"""Title of a column of ours to the target that it is made for."""
BEST_PEER = math.inf
"""The target of a model that has to be faster than every peer's."""
TARGETS: Mapping[str, float] = {
    "densenet121": 0.86,
    "mobilenet_v3_small": 0.74,
    "keras.EfficientNetB0": 0.82,
    "ch_PP-OCRv4_rec_infer": 0.82,
    "ch_PP-OCRv4_det_infer": 0.88,
    "repvgg_a2": 0.91,
    "mobileone_s1": 0.91,
    "levit128": 0.85,
    "swin_t_dynamo": 0.92,
    "nasnet_mobile": BEST_PEER,
    "bert_6": BEST_PEER,
    "whisper_encoder_4": BEST_PEER,
    "llama_6": BEST_PEER,
    "convnext_t": BEST_PEER,
    "shufflenet_v2": BEST_PEER,
}
MEAN_TARGET, WORST_TARGET, LOAD_TARGET = 0.90, 1.01, 0.80
INTRODUCTION = """## How fast the results run

`python -m tools.bench_latency --zoo --write` measures these tables, each model in processes of its own. All
files of a model and the original take turns on the same input in one process: onnxruntime's CPU provider at
its default level, float32, one thread, batch 1. A number is the time of a file over that of the original:
the median of the rounds' ratios with its 95 % confidence interval; below 1 is faster. Peers run with their
defaults. *onnxruntime offline* is what onnxruntime saves when it is given a path for the optimized model: its
default level again, with layouts for the processor it is saved on. *failed*: the tool stopped, or onnxruntime
does not load its file, or the answers are not the original's. fuseonnx verifies and measures on the shapes
and the thread of the race, as `--input-shape` and `--threads 1` let it.

Load times are those of opening a session on the file, in the page cache, again interleaved.
"""

LEFT = (
    """Shares of a run's time by onnxruntime's profiler, and nodes: original → fuseonnx → `--target cpu`."""
)
REASON = 60
"""Characters of the reason of a failure that a cell shows."""


@dataclass(frozen=True)
class Entry:
    """One tool's file of one model; ratios to the original's. Of a file that is of no use, the failure."""

    failure: str = ""
    ratio: float = math.nan
    low: float = math.nan
    high: float = math.nan
    milliseconds: float = math.nan
    load_ratio: float = math.nan
    load_milliseconds: float = math.nan


@dataclass(frozen=True)
class Left:
    """Where the time of a file goes.

    Attributes:
        products: share of Conv, Gemm and MatMul, from 0 to 1.
        others: share of the other operators, layout reorders aside.
        reorders: number of nodes that change the layout.
        slowest: the slowest operators with their shares.
    """

    products: float
    others: float
    reorders: int
    slowest: Sequence[str]


@dataclass(frozen=True)
class Result:
    """One model: the original, tool to what became of its file, and what is left of the original and ours."""

    name: str
    failure: str = ""
    input: str = ""
    original: Entry = Entry()
    entries: Mapping[str, Entry] = field(default_factory=dict)
    left: Mapping[str, Left] = field(default_factory=dict)
    rounds: int = 0
    setup: str = ""
    day: str = ""

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Result:
        """Read what `save` wrote."""
        values = json.loads(path.read_text(encoding="utf-8"))
        values["original"] = Entry(**values["original"])
        values["entries"] = {tool: Entry(**entry) for tool, entry in values["entries"].items()}
        values["left"] = {file: Left(**left) for file, left in values["left"].items()}
        return cls(**values)

    def with_entries(self, entries: Mapping[str, Entry]) -> Result:
        """Return it with other entries."""
        return dataclasses.replace(self, entries=entries)

    def of(self, tool: str) -> Entry:
        """Return what became of a tool's file; a failure if it was not installed then."""
        return self.entries.get(tool, Entry(failure="not measured"))

    def line(self) -> str:
        """Return the result in one line."""
        ratios = [f"{tool} {_cell(entry)}" for tool, entry in self.entries.items()]
        return f"{self.name}: {self.failure or ', '.join(ratios)}"

    def best_peer(self) -> tuple[str, float]:
        """Return the fastest of the peers' files and its ratio; infinity if all peers failed."""
        peers = {tool: entry.ratio for tool, entry in self.entries.items() if _is_peer(tool, entry)}
        return min(peers.items(), key=lambda peer: peer[1], default=("–", math.inf))


def page(results: Sequence[Result]) -> Iterator[str]:
    """Yield the lines of the page's part."""
    measured = [result for result in results if not result.failure]
    yield INTRODUCTION
    if measured:
        yield from _setups(measured)
        yield from (*summary(measured), "")
        for title, chosen in (
            ("Models with a target", [result for result in measured if result.name in TARGETS]),
            ("All others", [result for result in measured if result.name not in TARGETS]),
        ):
            if chosen:
                yield from (f"### {title}", "", *table(chosen), "")
        yield from ("### What is left", "", LEFT, "", *left_table(measured), "")
    for result in results:
        if result.failure:
            yield f"- {result.name} failed: {result.failure}"


def tools_of(results: Sequence[Result]) -> list[str]:
    """Return every tool that was measured, ours first."""
    return list(dict.fromkeys([*OURS, *(tool for result in results for tool in result.entries)]))


def table(results: Sequence[Result]) -> Iterator[str]:
    """Yield a row for each model: the ratios of all tools, the best peer and the target."""
    tools = tools_of(results)
    yield _row("model", "input", "original, ms", *tools, "best peer", "target", "met")
    yield f"|---|---|{'---:|' * (1 + len(tools))}---|---:|---|"
    for result in results:
        peer, ratio = result.best_peer()
        cells = [_cell(result.of(tool)) for tool in tools]
        best = f"{peer} {ratio:.2f}"
        time = f"{result.original.milliseconds:.3g}"
        yield _row(result.name, result.input, time, *cells, best, *_target(result))


def summary(results: Sequence[Result]) -> Iterator[str]:
    """Yield geometric means, worst models and load times of each tool."""
    yield _row("tool", "models", "failed", "geometric mean", "worst model", "load time, geometric mean")
    yield "|---|---:|---:|---:|---|---:|"
    for tool in tools_of(results):
        right = [result for result in results if not result.of(tool).failure]
        failed = str(len(results) - len(right))
        if not right:
            yield _row(tool, "0", failed, "", "", "")
            continue
        worst = max(right, key=lambda result: result.of(tool).ratio)
        mean = _geometric_mean(right, lambda entry: entry.ratio, tool)
        load = _geometric_mean(right, lambda entry: entry.load_ratio, tool)
        yield _row(
            tool,
            str(len(right)),
            failed,
            f"{mean:.3f}{_verdict(tool, mean, MEAN_TARGET)}",
            f"{worst.name} {_cell(worst.of(tool))}" + _verdict(tool, worst.of(tool).ratio, WORST_TARGET),
            f"{load:.3f}{_verdict(tool, load, LOAD_TARGET)}",
        )


def left_table(results: Sequence[Result]) -> Iterator[str]:
    """Yield what is left of the models with a target, which alone are profiled."""
    heads = ("Conv, Gemm, MatMul", "other operators", "layout reorders", "slowest operators in the end")
    yield _row("model", *heads)
    yield "|---|---:|---:|---:|---|"
    for result in filter(lambda result: result.left, results):
        files = list(result.left.values())
        yield _row(
            result.name,
            " → ".join(f"{left.products:.0%}" for left in files),
            " → ".join(f"{left.others:.0%}" for left in files),
            " → ".join(str(left.reorders) for left in files),
            ", ".join(files[-1].slowest),
        )


def _target(result: Result) -> tuple[str, str]:
    """Return the cells of the target, and whether either file of ours meets it."""
    if result.name not in TARGETS:
        return "", ""
    target, peer = TARGETS[result.name], result.best_peer()[1]
    met = [tool for tool in OURS if tool in result.entries and _meets(result.of(tool).ratio, target, peer)]
    said = f"≤ {target:.2f}" if target != BEST_PEER else f"< {peer:.2f}, best peer"
    if not met:
        return said, "**no**"
    return said, "yes" if met[0] == "fuseonnx" else f"with {met[0].removeprefix('fuseonnx ')}"


def _meets(ratio: float, target: float, peer: float) -> bool:
    return ratio < peer if target == BEST_PEER else ratio <= target


def _verdict(tool: str, value: float, target: float) -> str:
    """Return what our own columns say about the target of a summary."""
    if tool not in OURS:
        return ""
    return f" (≤ {target:.2f}: {'yes' if value <= target else '**no**'})"


def _is_peer(tool: str, entry: Entry) -> bool:
    return tool not in OURS and not entry.failure


def _cell(entry: Entry) -> str:
    if entry.failure:
        return f"failed: {' '.join(entry.failure.split())[:REASON]}".replace("|", "\\|")
    return f"{entry.ratio:.2f} ({entry.low:.2f}–{entry.high:.2f})"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _geometric_mean(results: Sequence[Result], of: Callable[[Entry], float], tool: str) -> float:
    return math.exp(math.fsum(math.log(of(result.of(tool))) for result in results) / len(results))


def _setups(results: Sequence[Result]) -> Iterator[str]:
    """Yield the machines and versions that the results belong to, and days and rounds."""
    days, rounds = sorted({result.day for result in results}), sorted(result.rounds for result in results)
    for setup, group in groupby(sorted(results, key=lambda each: each.setup), lambda each: each.setup):
        yield f"Machine: {setup} ({len(list(group))} models)."
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    yield f"{when}; {rounds[0]} to {rounds[-1]} rounds for each model.\n"
