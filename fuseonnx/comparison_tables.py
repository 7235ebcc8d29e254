"""A comparison of two models as the tables that the terminal draws."""

from __future__ import annotations

from collections.abc import Iterator

from fuseonnx.comparing import Comparison
from fuseonnx.markdown import Section, dtype_name
from fuseonnx.report import OutputDifference
from fuseonnx.runtime.accuracy import Accuracy
from fuseonnx.runtime.divergence import Divergence
from fuseonnx.runtime.providers import CPU_PROVIDER
from fuseonnx.tracing import Trace

_COLUMNS = {
    "output": "l",
    "dtype": "l",
    "max": "r",
    "mean": "r",
    "relative": "r",
    "ulp": "r",
    "max ulp": "r",
    "cosine": "r",
    "SNR dB": "r",
    "noise": "r",
    "x noise": "r",
    "worst run": "l",
    "": "l",
}
_OPTIONAL = ("mean", "max ulp", "SNR dB", "cosine", "ulp", "relative", "worst run", "dtype")


def comparison_heading(comparison: Comparison) -> str:
    """Return the comparison in one line."""
    return f"{comparison.original} = {comparison.candidate}: {_verdict(comparison)}"


def comparison_sections(comparison: Comparison) -> Iterator[Section]:
    """Yield the tables of a comparison, those that would be empty left out."""
    outputs = _outputs(comparison)
    if outputs.rows or outputs.notes:
        yield outputs
    if comparison.accuracy:
        yield _accuracy(comparison.accuracy)
    if comparison.divergence:
        yield _divergence(comparison.divergence)
    if comparison.trace:
        yield _trace(comparison.trace)


def _verdict(comparison: Comparison) -> str:
    verification = comparison.verification
    where = "CPU" if comparison.provider == CPU_PROVIDER.name else comparison.assignment
    if verification.status == "passed":
        return f"the same answers on {verification.runs} runs ({where})"
    what = "NOT COMPARED" if verification.status == "skipped" else "OTHER ANSWERS"
    return f"{what}: {verification.reason}"


def _outputs(comparison: Comparison) -> Section:
    verification = comparison.verification
    return Section(
        f"Outputs against {comparison.against}",
        tuple(_COLUMNS),
        tuple(_output(output) for output in verification.outputs),
        "".join(_COLUMNS.values()),
        notes=verification.notes,
        alarm=verification.status == "failed",
        optional=_OPTIONAL,
    )


def _output(output: OutputDifference) -> tuple[str, ...]:
    return (
        output.name,
        dtype_name(output.dtype),
        f"{output.max_abs:.1e}",
        f"{output.mean_abs:.1e}",
        f"{output.relative:.1e}",
        _count(output.ulp),
        _count(output.max_ulp),
        "" if output.cosine is None else _cosine(output.cosine),
        "" if output.snr_db is None else f"{output.snr_db:.1f}",
        f"{output.noise_floor:.1e}",
        f"{output.multiple:.2f}" if output.multiple < 1000 else f"{output.multiple:.1e}",
        output.run,
        "ok" if output.passed else "FAILED",
    )


def _count(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number:.0f}" if number < 1e6 else f"{number:.1e}"


def _cosine(cosine: float) -> str:
    """Return a cosine; close to 1, how far below 1 it is."""
    return "1" if cosine == 1 else f"1-{1 - cosine:.1e}" if cosine > 0.999 else f"{cosine:.4f}"


def _accuracy(accuracy: Accuracy) -> Section:
    rows = tuple(
        (name, f"{before:.2%}", f"{after:.2%}", f"{100 * (after - before):+.2f}" if before != after else "")
        for name, before, after in (
            ("top-1", accuracy.top1_before, accuracy.top1_after),
            ("top-5", accuracy.top5_before, accuracy.top5_after),
        )
    )
    return Section(
        f"Accuracy of {accuracy.output!r} on {accuracy.rows:,} labelled rows",
        ("", "before", "after", "change"),
        rows,
        "lrrr",
        notes=(f"both name the same class for {accuracy.agreement:.2%} of the rows",),
    )


def _divergence(divergence: Divergence) -> Section:
    first = divergence.first
    rows: list[tuple[str, str]] = []
    if first:
        rows = [
            ("tensor", first.tensor),
            ("made by", first.made_by),
            ("in the other model by", first.made_in_candidate_by),
            ("difference", first.reason),
            ("last tensor that agrees", divergence.last_agreeing or "none"),
        ]
    rows.append(("on run", divergence.run))
    title = (
        "Where they part" if first else "No tensor that has one name in both models leads to the difference"
    )
    note = f"{divergence.common} tensors with one name in both models were compared, optimizations off"
    return Section(title, ("", ""), tuple(rows), "ll", notes=(note,), alarm=first is not None)


def _trace(trace: Trace) -> Section:
    if not trace.rule:
        return Section("Which rule did it: not known", (), (), "", notes=(trace.reason,))
    rows = ((trace.rule, trace.at),)
    return Section("Which rule did it", ("rule", "at"), rows, "ll", alarm=True)
