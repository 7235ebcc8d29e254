"""A report as titled tables, and those as Markdown; the terminal draws the same tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fuseonnx.report import Export, Report, Speed, Timing, Verification

_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_CPU = "CPUExecutionProvider"
_TIMES = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))


@dataclass(frozen=True)
class Section:
    """A titled table of text cells."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str
    """One letter a column: `l` or `r`."""
    notes: tuple[str, ...] = ()
    """Lines below the table."""
    alarm: bool = False
    """Whether the reader must not overlook it."""
    optional: tuple[str, ...] = ()
    """Columns that a narrow terminal leaves out, the first one first."""


def report_to_markdown(report: Report) -> str:
    """Return the report as a Markdown document."""
    blocks = [f"# {heading(report)}", summary(report)]
    for section in sections(report, explain=True):
        mark = "**" if section.alarm else ""
        blocks.append(f"## {mark}{section.title}{mark}")
        if section.rows:
            blocks.append("\n".join(_markdown_table(section)))
        if section.notes:
            blocks.append("\n".join(f"- {_escaped(note)}" for note in section.notes))
    return "\n\n".join(blocks) + "\n"


def heading(report: Report | Export) -> str:
    """Return which model became which."""
    return f"{report.source} -> {report.output}" if report.output else report.source


def summary(report: Report) -> str:
    """Return the report in one line."""
    before, after = report.before, report.after
    parts = [f"{before.nodes:,} -> {after.nodes:,} nodes"]
    if after.file_bytes:
        parts.append(f"{human_bytes(before.file_bytes)} -> {human_bytes(after.file_bytes)}")
    parts.append(_verdict(report.verification))
    if report.rolled_back:
        rules = ", ".join(sorted({undone.rule for undone in report.rolled_back}))
        parts.append(f"ROLLED BACK {len(report.rolled_back)} ({rules})")
    if report.speed:
        parts.append(_speed_in_short(report.speed))
    if report.undone:
        parts.append(f"left out as slower: {', '.join(undone.rule for undone in report.undone)}")
    parts += report.notes
    parts.append(f"{sum(report.seconds.values()):.1f} s")
    return ", ".join(parts)


def sections(report: Report, *, explain: bool = False) -> Iterator[Section]:
    """Yield the tables of a report, those that would be empty left out; `explain` gives each reason a row."""
    if report.export:
        yield _export(report.export)
    yield _size(report)
    yield _operators(report)
    if report.rules:
        yield explanation(report) if explain else _rules(report)
    if report.skipped_folds:
        yield _skipped_folds(report)
    if report.rolled_back:
        rows = tuple((undone.rule, undone.at, undone.reason) for undone in report.rolled_back)
        yield Section(
            "ROLLED BACK: these rewrites changed the answers",
            ("rule", "at", "reason"),
            rows,
            "lll",
            alarm=True,
        )
    yield _verification("Verification", report.verification)
    if report.export and report.parity:
        yield _verification(f"Against {report.export.framework}", report.parity)
    yield from _speed(report)
    yield _time(report.seconds)


def export_sections(export: Export) -> Iterator[Section]:
    """Yield the tables of an export."""
    yield _export(export)
    yield _verification(f"Against {export.framework}", export.parity)
    yield _time(export.seconds)


def explanation(report: Report) -> Section:
    """Return the table of rules, with a row for each reason why one kept out, the most frequent first."""
    rows: list[tuple[str, ...]] = []
    for use in report.rules:
        reasons = sorted(use.declined.items(), key=lambda item: (-item[1], item[0]))
        kept_out = [(str(count), reason) for reason, count in reasons] or [("", "")]
        names = [(use.name, str(use.fired)), *[("", "")] * (len(kept_out) - 1)]
        rows += [(*name, *why) for name, why in zip(names, kept_out, strict=True)]
    return Section("Rules", ("rule", "fired", "kept out", "because"), tuple(rows), "lrrl")


def human_bytes(count: int) -> str:
    """Return a number of bytes with the unit that leaves at most three digits before the point."""
    value, unit = float(count), 0
    while value >= 999.95 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{count} bytes" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def dtype_name(declared: str) -> str:
    """Return `float` for onnxruntime's `tensor(float)`; `seq(tensor(float))` and the like as they are."""
    return declared[len("tensor(") : -1] if declared.startswith("tensor(") else declared


def _size(report: Report) -> Section:
    before, after = report.before, report.after
    rows = [
        ("nodes", f"{before.nodes:,}", f"{after.nodes:,}", _change(before.nodes, after.nodes)),
        (
            "parameters",
            f"{before.parameters:,}",
            f"{after.parameters:,}",
            _change(before.parameters, after.parameters),
        ),
    ]
    for name, old, new in (
        ("weights", before.weight_bytes, after.weight_bytes),
        ("file", before.file_bytes, after.file_bytes),
    ):
        if new:
            rows.append((name, human_bytes(old), human_bytes(new), _change(old, new)))
    return Section("Size", ("", "before", "after", "change"), tuple(rows), "lrrr", report.notes)


def _change(before: int, after: int) -> str:
    return "" if before == after or not before else f"{100 * (after - before) / before:+.1f} %"


def _operators(report: Report) -> Section:
    before, after = report.before.ops, report.after.ops
    names = sorted({*before, *after}, key=lambda name: (-max(before.get(name, 0), after.get(name, 0)), name))
    rows = tuple((name, str(before.get(name, 0)), str(after.get(name, 0))) for name in names)
    return Section("Operators", ("operator", "before", "after"), rows, "lrr")


def _rules(report: Report) -> Section:
    rows = tuple((use.name, str(use.fired), str(sum(use.declined.values()) or "")) for use in report.rules)
    return Section("Rules", ("rule", "fired", "kept out"), rows, "lrr")


def _skipped_folds(report: Report) -> Section:
    counts = Counter((fold.op, fold.reason) for fold in report.skipped_folds)
    first = {(fold.op, fold.reason): fold.node for fold in reversed(report.skipped_folds)}
    rows = tuple((op, str(count), reason, first[op, reason]) for (op, reason), count in counts.most_common())
    return Section("Folds skipped", ("operator", "times", "reason", "first at"), rows, "lrll")


def _export(export: Export) -> Section:
    rows = (
        ("framework", export.framework),
        ("exporter", export.exporter),
        ("opset", str(export.opset)),
        ("parity", _verdict(export.parity)),
    )
    return Section("Export", ("", ""), rows, "ll", export.notes)


def _time(seconds: Mapping[str, float]) -> Section:
    rows = tuple((stage, f"{spent:.2f}") for stage, spent in seconds.items())
    return Section("Time", ("stage", "seconds"), rows, "lr")


def _verification(title: str, verification: Verification) -> Section:
    rows = tuple(
        (
            output.name,
            dtype_name(output.dtype),
            f"{output.max_abs:.1e}",
            f"{output.mean_abs:.1e}",
            f"{output.relative:.1e}",
            f"{output.noise_floor:.1e}",
            f"{output.allowed:.1e}",
            "ok" if output.passed else f"FAILED {output.reason}",
        )
        for output in verification.outputs
    )
    columns = ("output", "dtype", "max", "mean", "relative", "noise", "allowed", "")
    return Section(
        f"{title}: {_verdict(verification)}",
        columns,
        rows,
        "llrrrrrl",
        notes=verification.notes,
        alarm=verification.status == "failed",
        optional=("mean", "dtype", "relative"),
    )


def _verdict(verification: Verification) -> str:
    reason = f": {verification.reason}" if verification.reason else ""
    if verification.status == "passed":
        return f"verified on {verification.runs} runs"
    return f"NOT VERIFIED{reason}" if verification.status == "skipped" else f"WRONG ANSWERS{reason}"


def _speed(report: Report) -> Iterator[Section]:
    if report.speed:
        columns = ("inputs", "original", "artifact", "ratio", "95 % interval", "rounds")
        rows = tuple((each.inputs, *_cells(each)) for each in report.speed.timings)
        notes = (_place(report.speed),) if rows else ()
        yield Section(
            f"Speed: {_speed_verdict(report.speed)}", columns, rows, "lrrrrr", notes, optional=("rounds",)
        )
    if report.choices:
        yield _choices(report)
    if report.undone:
        rows = tuple((each.rule, str(each.sites), f"{each.ratio:.2f}") for each in report.undone)
        yield Section(
            "Left out: the artifact was slower with these rules",
            ("rule", "places", "ratio with them"),
            rows,
            "lrr",
        )


def _choices(report: Report) -> Section:
    rows: list[tuple[str, ...]] = []
    for choice in report.choices:
        reason = f": {choice.reason}" if choice.reason else ""
        kept = "kept" if choice.kept else f"dropped{reason}"
        start = (choice.rule, str(choice.sites), kept)
        rows += [(*start, each.inputs, *_cells(each)[2:4]) for each in choice.timings] or [
            (*start, *[""] * 3)
        ]
    columns = ("form", "places", "", "inputs", "ratio", "95 % interval")
    return Section(
        f"Tried for target {report.target}", columns, tuple(rows), "lrllrr", optional=("places", "inputs")
    )


def _cells(timing: Timing) -> tuple[str, ...]:
    return (
        _human_seconds(timing.original),
        _human_seconds(timing.artifact),
        f"{timing.ratio:.2f}",
        _interval(timing),
        str(timing.rounds),
    )


def _interval(timing: Timing) -> str:
    return f"{timing.low:.2f} to {timing.high:.2f}"


def _speed_verdict(speed: Speed) -> str:
    if not speed.timings:
        return f"{speed.verdict}: {speed.reason}"
    each = speed.timings[-1]
    return f"{each.ratio:.2f} ({_interval(each)}) of the original's latency: {speed.verdict}"


def _speed_in_short(speed: Speed) -> str:
    if not speed.timings:
        return f"speed {speed.verdict}: {speed.reason}"
    return f"{speed.timings[-1].ratio:.2f} of the latency ({speed.verdict})"


def _place(speed: Speed) -> str:
    threads = f"{speed.threads} thread(s)" if speed.threads else "onnxruntime's own number of threads"
    where = "on" if speed.provider == _CPU else "asked for"
    return f"{where} {speed.provider}, {threads}; {speed.timings[-1].nodes}"


def _human_seconds(seconds: float) -> str:
    """Return a duration with the unit that leaves at least one digit before the point."""
    unit, size = next((each for each in _TIMES if seconds >= each[1]), _TIMES[-1])
    return f"{seconds / size:.3g} {unit}"


def _markdown_table(section: Section) -> Iterator[str]:
    yield _markdown_row(section.columns)
    yield "|" + "|".join("---:" if letter == "r" else "---" for letter in section.align) + "|"
    for row in section.rows:
        yield _markdown_row(row)


def _markdown_row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(_escaped(cell).replace("|", "\\|") for cell in cells) + " |"


def _escaped(text: str) -> str:
    for character in "\\`*_<[":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())
