"""Place every model that tools/bench_latency.py knows on CUDA and the CPU, and time the report.

    python -m tools.bench_placement            # print the table
    python -m tools.bench_placement --write    # put it into docs/placement.md as well

No GPU is needed: what onnxruntime would do comes from its table of kernels. Seconds are those of
`fuseonnx.place` without writing anything, imports excluded, on inputs of the sizes that it assumes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import fuseonnx
from tools.bench_latency_models import every_model, model_path
from tools.bench_optimize import setup
from tools.pages import DOCS, publish

LIMIT_SECONDS = 1.0
INTRODUCTION = """# Where CUDA takes every model of the zoo

`python -m tools.bench_placement --write` makes this page, without a GPU. *By itself* is what onnxruntime
would do, *placed* what `fuseonnx place` proposes: nodes on the CPU, and copies between the devices in a run.
"""


def rows() -> Iterator[tuple[float, str]]:
    """Yield the seconds and the line of each model."""
    for name in every_model():
        path = model_path(name)
        start = time.perf_counter()
        report = fuseonnx.place(path).report
        seconds = time.perf_counter() - start
        before, after = report.by_itself, report.placed
        cells = (
            name,
            f"{len(report.nodes):,}",
            f"{before.nodes['cpu']:,} → {after.nodes['cpu']:,}",
            f"{len(before.hops):,} → {len(after.hops):,}",
            f"{seconds:.2f}",
        )
        yield seconds, f"| {' | '.join(cells)} |"


def page() -> Iterator[str]:
    """Yield the machine, one line for each model, and how long the slowest took."""
    fuseonnx.place(model_path("silero_vad"))  # imports
    yield INTRODUCTION
    yield setup()
    yield "| model | nodes | on the CPU, by itself → placed | copies, by itself → placed | seconds |"
    yield "|---|---:|---:|---:|---:|"
    longest, count = 0.0, 0
    for seconds, line in rows():
        yield line
        longest, count = max(longest, seconds), count + 1
    yield f"\n{count} models, the slowest in {longest:.2f} s (limit {LIMIT_SECONDS:.0f} s)."


def main() -> None:
    """Print the table, and write the page if that is asked for."""
    parser = argparse.ArgumentParser(description="Place every model of the zoo, and time it.")
    parser.add_argument("--write", action="store_true", help="write docs/placement.md as well")
    publish(page(), DOCS / "placement.md", write=parser.parse_args().write)


if __name__ == "__main__":
    main()
