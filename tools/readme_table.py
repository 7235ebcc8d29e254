"""Optimize the real models of tools/fetch_models.py and print the README's before/after table as Markdown.

    python -m tools.readme_table            # print it
    python -m tools.readme_table --write    # put it into README.md as well

Seconds are those of the whole call, with verification and race, imports excluded. One thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime

import fuseonnx
from fuseonnx.markdown import human_bytes
from fuseonnx.report import Report, Speed
from tools.bench_optimize import setup
from tools.fetch_models import fetch
from tools.pages import ROOT, publish

README, EXAMPLES = ROOT / "README.md", ROOT / "examples"
MARKERS = "<!-- table: begin -->", "<!-- table: end -->"
COLUMNS = ("model", "nodes", "file", "latency", "largest relative difference", "rolled back", "seconds")


def row(name: str, report: Report, seconds: float) -> str:
    """Return the line of one model.

    The difference is the largest of any output in any run, relative to the output's largest magnitude.
    """
    before, after, verification = report.before, report.after, report.verification
    cells = (
        name,
        f"{before.nodes:,} → {after.nodes:,}",
        f"{human_bytes(before.file_bytes)} → {human_bytes(after.file_bytes)}",
        _latency(report.speed),
        f"{max(output.relative for output in verification.outputs):.1e}"
        if verification.status == "passed"
        else f"{verification.status}: {verification.reason}",
        str(len(report.rolled_back)),
        f"{seconds:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def _latency(speed: Speed | None) -> str:
    """Return the ratio to the original's latency with its interval, on the largest inputs of the race."""
    if speed is None or not speed.timings:
        return "not measured"
    timing = speed.timings[-1]
    return f"{timing.ratio:.2f} ({timing.low:.2f} to {timing.high:.2f})"


def accuracy(model: Path) -> str:
    """Return how many of the images in examples/digits.npz a model recognises."""
    samples = np.load(EXAMPLES / "digits.npz")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": samples["image"]})
    right = int((logits.argmax(axis=1) == samples["label"]).sum())
    return f"{right} of {len(samples['label'])} ({right / len(samples['label']):.1%})"


def table() -> Iterator[str]:
    """Yield the machine, the versions and one line for each model."""
    models = {"digits": EXAMPLES / "digits.onnx", **fetch()}
    fuseonnx.optimize(min(models.values(), key=lambda path: path.stat().st_size).read_bytes())  # imports
    yield setup()
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    with tempfile.TemporaryDirectory() as folder:
        for name, path in models.items():
            start = time.perf_counter()
            result = fuseonnx.optimize(path, Path(folder) / f"{name}.onnx", threads=1)
            yield row(name, result.report, time.perf_counter() - start)
        before, after = accuracy(models["digits"]), accuracy(Path(folder) / "digits.onnx")
    yield f"\nAccuracy of `digits` on its held-out images: {before} before, {after} after."


def main() -> None:
    """Print the table, and put it into the README if that is asked for."""
    parser = argparse.ArgumentParser(description="Print the before/after table of README.md.")
    parser.add_argument("--write", action="store_true", help="put it into README.md as well")
    publish(table(), README, write=parser.parse_args().write, markers=MARKERS)


if __name__ == "__main__":
    main()
