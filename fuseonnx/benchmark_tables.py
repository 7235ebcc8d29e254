"""A benchmark as the tables that the terminal and Markdown share."""

from __future__ import annotations

from collections.abc import Iterator

from fuseonnx.markdown import Section, human_bytes
from fuseonnx.runtime.benchmark import Benchmark, Point
from fuseonnx.runtime.race import Ratio

_COMPARED = ("ratio", "95 % interval", "")
_METHOD = (
    "each round opens all models anew, warms them up and runs them in turn, forwards and backwards;"
    " a ratio is the median of the rounds' ratios to the first model, with the interval of the sign test"
)


def benchmark_heading(benchmark: Benchmark) -> str:
    """Return the result in one line."""
    first, *others = benchmark.models
    if not others:
        times = " / ".join(_ms(point.latencies[0].p50) for point in benchmark.points)
        return f"{first.name}: {times} ms a run"
    found = [f"{entrant.name}: {_verdicts(benchmark, 1 + i)}" for i, entrant in enumerate(others)]
    return f"Compared with {first.name}, {'; '.join(found)}"


def benchmark_sections(benchmark: Benchmark) -> Iterator[Section]:
    """Yield the tables of a benchmark."""
    compared = len(benchmark.models) > 1
    for point in benchmark.points:
        yield _latency(benchmark, point, compared)
    yield _loading(benchmark, compared)
    yield _conditions(benchmark, compared)


def _latency(benchmark: Benchmark, point: Point, compared: bool) -> Section:
    rows = tuple(
        (
            entrant.name,
            *map(_ms, (latency.p50, latency.p90, latency.p99, latency.mean)),
            f"{latency.throughput:,.{0 if latency.throughput >= 100 else 1}f}",
            f"{latency.runs:,}",
            *(_compared(latency.ratio) if compared else ()),
        )
        for entrant, latency in zip(benchmark.models, point.latencies, strict=True)
    )
    columns = ("model", "p50 ms", "p90 ms", "p99 ms", "mean ms", "items/s", "runs")
    size = "" if point.batch is None else f" at batch {point.batch}"
    inputs = ", ".join(f"{name} {kind}" for name, kind in point.inputs.items())
    return Section(
        f"Latency and throughput{size}: {inputs or 'no inputs'}",
        columns + (_COMPARED if compared else ()),
        rows,
        "lrrrrrr" + ("rrl" if compared else ""),
        alarm=any(latency.ratio and latency.ratio.verdict == "slower" for latency in point.latencies),
        optional=("runs", "mean ms", "p90 ms", "p99 ms", "items/s"),
    )


def _loading(benchmark: Benchmark, compared: bool) -> Section:
    rows = tuple(
        (
            entrant.name,
            _ms(entrant.load_seconds),
            *(_compared(entrant.load_ratio) if compared else ()),
            human_bytes(entrant.memory.added) if entrant.memory else "unknown",
        )
        for entrant in benchmark.models
    )
    columns = ("model", "load ms", *(_COMPARED if compared else ()), "peak memory")
    notes = (
        "load: to open a session, the file in the page cache; peak memory: what loading and one run add to a"
        " process of its own that has imported onnxruntime",
    )
    align = "lr" + ("rrl" if compared else "") + "r"
    optional = ("95 % interval",) if compared else ()
    return Section("Loading and memory", columns, rows, align, notes, optional=optional)


def _conditions(benchmark: Benchmark, compared: bool) -> Section:
    options = ", ".join(f"{key}={value}" for key, value in benchmark.provider_options.items())
    rows = [
        ("onnxruntime", f"{benchmark.onnxruntime}, default optimization level"),
        ("provider", f"{benchmark.provider.removesuffix('ExecutionProvider')} {options}".strip()),
        ("threads", str(benchmark.threads) if benchmark.threads else "onnxruntime's choice"),
    ]
    if benchmark.provider != "CPUExecutionProvider":
        rows += [(entrant.name, entrant.assignment) for entrant in benchmark.models]
    if compared:
        rounds = [ratio.rounds for point in benchmark.points if (ratio := point.latencies[1].ratio)]
        rows.append(("rounds", ", ".join(map(str, rounds))))
    notes = ((_METHOD,) if compared else ()) + benchmark.notes
    return Section("Conditions", ("", ""), tuple(rows), "ll", notes)


def _compared(ratio: Ratio | None) -> tuple[str, str, str]:
    if ratio is None:
        return ("", "", "")
    return (f"{ratio.median:.3f}", f"{ratio.low:.3f} to {ratio.high:.3f}", ratio.verdict)


def _verdicts(benchmark: Benchmark, number: int) -> str:
    """Return what is said of a model at each batch size, or once if that is the same at all."""
    ratios = {point.batch: point.latencies[number].ratio for point in benchmark.points}
    said = {batch: _verdict(ratio) for batch, ratio in ratios.items() if ratio}
    if len(said) == 1 or set(said.values()) == {"no difference"}:
        return next(iter(said.values()))
    return ", ".join(f"{text} at batch {batch}" for batch, text in said.items())


def _verdict(ratio: Ratio) -> str:
    if ratio.verdict == "no difference":
        return ratio.verdict
    return f"{ratio.verdict} ({ratio.median:.2f} of its latency)"


def _ms(seconds: float) -> str:
    """Return milliseconds with three significant digits, more only before the point."""
    ms = 1000 * seconds
    digits = 0 if ms >= 100 else 1 if ms >= 10 else 2 if ms >= 1 else 3 if ms >= 0.1 else 4
    return f"{ms:,.{digits}f}"
