"""Run everything of fuseonnx that needs a GPU and print one table.

    python -m tools.gpu_check [MODEL.onnx ...]

The table holds the tests of tests/gpu, then, for three small nets and the models given, whether `optimize`
verifies on each provider and how the artifact's latency compares with the original's (interleaved, inputs and
outputs on the device, onnxruntime's default level). All of it in full float32: TF32 is off. It needs no
network.

Exit code: 0 if all went well, 1 if something failed, 2 without a GPU.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import onnx

import fuseonnx
from fuseonnx.errors import FuseOnnxError
from fuseonnx.runtime.assignment import assignment_of
from fuseonnx.runtime.binding import call_of, with_cuda_graph
from fuseonnx.runtime.inputs import make_inputs
from fuseonnx.runtime.provider_options import CudaOptions
from fuseonnx.runtime.providers import Backend, as_backend
from fuseonnx.runtime.race import Call, heats, ratio
from fuseonnx.runtime.session import Feeds, open_session
from tests.gpu import models

NO_GPU = 2
ROOT = Path(__file__).resolve().parents[1]
NETS = {
    "cnn": models.cnn(channels=64, size=112),
    "transformer": models.transformer(heads=8, width=512),
    "lstm": models.lstm(width=256),
}


@dataclass(frozen=True)
class Row:
    """One check: what, how it went (`passed`, `failed` or `skipped`), and what is to be said about it."""

    check: str
    result: str
    detail: str = ""


def machine() -> str:
    """Return the GPU, its driver, and the version of onnxruntime."""
    import onnxruntime as ort

    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        found = ""
    gpu, _, driver = found.partition("\n")[0].partition(", ")
    versions = f"driver {driver or 'unknown'}, CUDA {ort.cuda_version}, onnxruntime {ort.__version__}"
    return f"{gpu or 'unknown GPU'}, {versions}"


def run_tests(folder: Path) -> list[Row]:
    """Run tests/gpu and return a row for each test, or one that says why there are none."""
    xml = folder / "tests.xml"
    command = [sys.executable, "-m", "pytest", "tests/gpu", "-m", "gpu", "-q", f"--junitxml={xml}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    rows = list(read_tests(xml)) if xml.exists() else []
    return rows or [Row("tests/gpu", "failed", (done.stdout + done.stderr).strip().replace("\n", " ")[-300:])]


def read_tests(xml: Path) -> Iterator[Row]:
    """Yield a row for each test of a JUnit file."""
    for case in ET.parse(xml).iter("testcase"):
        module = case.get("classname", "").rpartition(".")[2]
        name = f"{module}: {case.get('name')}".replace("test_", "").replace("_", " ")
        outcome = next((child for child in case if child.tag in {"failure", "error", "skipped"}), None)
        if outcome is None:
            yield Row(name, "passed", f"{float(case.get('time', 0)):.1f} s")
        else:
            result = "skipped" if outcome.tag == "skipped" else "failed"
            yield Row(name, result, (outcome.get("message") or "").partition("\n")[0])


def measure(name: str, path: Path, folder: Path, seconds: float) -> Iterator[Row]:
    """Optimize one model on each provider that is there, and race the artifact against the original."""
    feeds = next(make_inputs(onnx.load(path, load_external_data=False)))[1]
    for label, provider in (("CUDA", "cuda"), ("TensorRT", "tensorrt")):
        backend = as_backend(provider, allow_fallback=True)
        artifact = folder / f"{name}.{provider}.opt.onnx"
        try:
            where = assignment_of(open_session(path, backend))
            if where.missing:
                yield Row(f"{name} on {label}", "skipped", where.missing)
                continue
            fault = _optimize(path, artifact, backend)
            latency = "" if fault else _race(path, artifact, feeds, backend, seconds)
            yield Row(
                f"{name} on {label}",
                "failed" if fault else "passed",
                fault or f"{latency}; {where.summary()}",
            )
            if not fault and set(where.counts) == {CudaOptions.provider}:
                graphs = replace(backend, provider=with_cuda_graph(backend.provider))
                yield Row(f"{name} as a CUDA graph", "passed", _race(path, artifact, feeds, graphs, seconds))
        except FuseOnnxError as error:
            yield Row(f"{name} on {label}", "failed", str(error))


def _optimize(path: Path, artifact: Path, backend: Backend) -> str:
    """Write the artifact and return what is wrong with it."""
    result = fuseonnx.optimize(path, artifact, provider=backend.provider, allow_fallback=True, measure=False)
    undone = ", ".join(each.rule for each in result.report.rolled_back)
    if undone:
        return f"rolled back: {undone}"
    verification = result.report.verification
    return "" if verification.status == "passed" else f"{verification.status}: {verification.reason}"


def _race(original: Path, artifact: Path, feeds: Feeds, backend: Backend, seconds: float) -> str:
    """Return the latency of both, and their ratio with its confidence interval."""

    def opened(path: Path) -> Call:
        return call_of(open_session(path, backend, optimized=True), feeds, backend)

    times = heats([partial(opened, original), partial(opened, artifact)], seconds=seconds).times
    found = ratio(*times)
    before, after = (1e3 * median(each) for each in times)
    return f"{before:.3f} → {after:.3f} ms, {found.median:.2f} [{found.low:.2f}, {found.high:.2f}]"


def table(heading: str, rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, the machine in its head."""
    lines = [f"| {heading} | result | |", "|---|---|---|"]
    for row in rows:
        detail = " ".join(row.detail.split()).replace("|", "\\|")
        lines.append(f"| {row.check} | {row.result} | {detail} |")
    return "\n".join(lines)


def main() -> int:
    """Print the table and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "models", nargs="*", type=Path, metavar="MODEL.onnx", help="further models to measure"
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="of racing, for each model and provider")
    arguments = parser.parse_args()
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # read when CUDA's libraries are loaded
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = {net: folder / f"{net}.onnx" for net in NETS}
        for net, model in NETS.items():
            onnx.save(model, paths[net])
        try:
            open_session(paths["cnn"], as_backend("cuda"))
        except FuseOnnxError as error:
            reason = str(error).removeprefix(f"{paths['cnn']}: ")
            print(f"no GPU: {reason}")
            return NO_GPU
        rows = run_tests(folder)
        for net, path in [*paths.items(), *((given.stem, given) for given in arguments.models)]:
            rows += measure(net, path, folder, arguments.seconds)
    print(table(machine(), rows))
    return int(any(row.result == "failed" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
