"""Measure what optimizing costs, in seconds and in memory, and print it as Markdown beside the targets.

    python -m tools.bench_optimize            # fuseonnx and a plain copy of the file
    python -m tools.bench_optimize --peers    # and every other optimizer that is installed

Every measurement is a fresh process: seconds are those of the call alone, imports excluded; peak memory is
the whole process's (ru_maxrss). What is compared runs interleaved, `--rounds` times: the median seconds
and the maximum memory count. Verification is off. MB are 10^6 bytes. Needs Linux or macOS.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tools.peers import OPTIMIZERS, Action, Tool, onnxruntime_offline

# Nothing heavy is imported here: a child's ru_maxrss starts at the memory of the process that spawned it.

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "bench"
MODELS = ("gpt2", "vit_b", "swin_t")
GROWTH = ("blocks_10000", "blocks_100000")
PACKAGES = (
    "fuseonnx",
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "onnxsim",
    "onnxslim",
    "onnxoptimizer",
    "onnxscript",
)
RESULT = "seconds of the call: "


def _fuseonnx(model: str, output: str) -> Action:
    from fuseonnx import optimize

    return lambda: optimize(model, output, verify=False)


def _copy(model: str, output: str) -> Action:
    return lambda: shutil.copyfile(model, output)


def _copy_to_disk(model: str, output: str) -> Action:
    def action() -> None:
        shutil.copyfile(model, output)
        with Path(output).open("rb") as file:
            os.fsync(file.fileno())

    return action


OURS: dict[str, Tool] = {"fuseonnx": _fuseonnx, "copy": _copy, "copy and fsync": _copy_to_disk}
PEERS: dict[str, Tool] = {"onnxruntime": partial(onnxruntime_offline, "ORT_ENABLE_BASIC"), **OPTIMIZERS}


class Run(NamedTuple):
    """One finished process, or why it did not finish."""

    seconds: float = 0.0
    peak_mb: float = 0.0
    output_mb: float = 0.0
    failure: str = ""


def run_child(command: list[str], timeout: float) -> tuple[str, float]:
    """Run a process to its end; return what it printed and its peak memory in MB.

    Raises:
        RuntimeError: it failed or was stopped after `timeout` seconds; one line.

    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with tempfile.TemporaryFile("w+") as log:
        child = subprocess.Popen([sys.executable, *command], stdout=log, stderr=log, env=environment)
        killer = threading.Timer(timeout, child.kill)
        killer.start()
        _, status, usage = os.wait4(child.pid, 0)
        stopped = not killer.is_alive()
        killer.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        printed = log.read()
    if stopped:
        raise RuntimeError(f"stopped after {timeout:.0f} s")
    if child.returncode != 0:
        raise RuntimeError((printed.strip().splitlines() or [f"exit status {child.returncode}"])[-1][:100])
    unit = 1 if sys.platform == "darwin" else 1024  # bytes of one count of ru_maxrss
    return printed, usage.ru_maxrss * unit / 1e6


def measure(tool: str, model: str, timeout: float) -> Run:
    """Let `tool` optimize `model` in a process of its own."""
    os.sync()  # nobody pays for writing back what the run before left
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        output = Path(folder) / f"{model}.onnx"
        command = ["-m", "tools.bench_optimize", "--child", tool, str(CACHE / output.name), str(output)]
        try:
            printed, peak_mb = run_child(command, timeout)
        except RuntimeError as error:
            return Run(failure=str(error))
        seconds = float(printed.rpartition(RESULT)[2].split()[0])
        return Run(seconds, peak_mb, sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6)


def compare(jobs: list[tuple[str, str]], rounds: int, timeout: float) -> dict[tuple[str, str], Run]:
    """Run every (tool, model) once a round, in turn; a job that failed is not tried again."""
    runs: dict[tuple[str, str], list[Run]] = {job: [] for job in jobs}
    for _ in range(rounds):
        for job, done in runs.items():
            if not any(run.failure for run in done):
                done.append(measure(*job, timeout))
    return {job: _summary(done) for job, done in runs.items()}


def _summary(runs: list[Run]) -> Run:
    if runs[-1].failure:
        return runs[-1]
    seconds = statistics.median(run.seconds for run in runs)
    return Run(seconds, max(run.peak_mb for run in runs), runs[-1].output_mb)


def help_seconds(rounds: int = 5) -> float:
    """Return the median wall-clock seconds of `fuseonnx --help`, start of Python included."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        run_child(["-m", "fuseonnx", "--help"], timeout=60)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def heavy_imports() -> str:
    """Return which runtimes and frameworks `import fuseonnx` imports, or "none"."""
    code = "import sys, fuseonnx; print(*({'onnxruntime', 'torch', 'tensorflow'} & sys.modules.keys()))"
    return run_child(["-c", code], timeout=60)[0].strip() or "none"


def machine() -> str:
    """Return processor, number of cores and operating system."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.processor() or platform.machine()
    return f"{cpu}, {os.cpu_count()} cores, {platform.system()}"


def versions(packages: Sequence[str]) -> list[str]:
    """Return the packages that are installed, each with its version."""
    found = []
    for package in packages:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def setup() -> str:
    """Return the machine and the versions the numbers belong to, as a paragraph."""
    return f"Machine: {machine()}.\nPython {platform.python_version()}; {', '.join(versions(PACKAGES))}.\n"


def print_runs(runs: dict[tuple[str, str], Run]) -> None:
    """Print one row for each tool and model."""
    print("| model | tool | seconds | × copy | peak memory, MB | output, MB |")
    print("|---|---|---:|---:|---:|---:|")
    for (tool, model), run in sorted(runs.items(), key=lambda item: item[0][1]):
        row = f"| {model} | {tool} |"
        if run.failure:
            print(row, f"{run.failure} | | | |")
        else:
            ratio = run.seconds / runs["copy", model].seconds
            print(row, f"{run.seconds:.2f} | {ratio:.1f} | {run.peak_mb:.0f} | {run.output_mb:.1f} |")


def print_targets(runs: dict[tuple[str, str], Run]) -> None:
    """Print what fuseonnx is to reach beside what was measured."""
    rows = []
    for model in ("gpt2", "vit_b"):
        ours, copy = runs["fuseonnx", model], runs["copy", model]
        limit = max(1.0, 2 * copy.seconds)
        rows += [
            (f"{model}, peak memory", "≤ 200 MB", f"{ours.peak_mb:.0f} MB", ours.peak_mb <= 200),
            (
                f"{model}, seconds",
                f"≤ {limit:.2f} (1.0 or 2× copy)",
                f"{ours.seconds:.2f}",
                ours.seconds <= limit,
            ),
        ]
    swin = runs["fuseonnx", "swin_t"].seconds
    small, large = (runs["fuseonnx", model].seconds for model in GROWTH)
    startup, heavy = help_seconds(), heavy_imports()
    rows += [
        ("swin_t, seconds", "≤ 2", f"{swin:.2f}", swin <= 2),
        ("100,000 against 10,000 nodes", "≤ 12×", f"{large / small:.1f}×", large <= 12 * small),
        ("fuseonnx --help, seconds", "≤ 0.25", f"{startup:.2f}", startup <= 0.25),
        ("heavy modules imported by `import fuseonnx`", "none", heavy, heavy == "none"),
    ]
    print("\n| what | target | measured | met |")
    print("|---|---|---|---|")
    for what, target, measured, met in rows:
        print(f"| {what} | {target} | {measured} | {'yes' if met else '**no**'} |")


def run_as_child(tool: str, model: str, output: str) -> None:
    """Do the work of one measurement and print its seconds."""
    action = (OURS | PEERS)[tool](model, output)
    start = time.perf_counter()
    action()
    print(f"\n{RESULT}{time.perf_counter() - start}", flush=True)


def main() -> None:
    """Make what models are missing, measure, and print the tables."""
    parser = argparse.ArgumentParser(description="Measure what optimizing costs, in seconds and in memory.")
    parser.add_argument("--peers", action="store_true", help="measure other installed optimizers too")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each measurement (default 3)")
    parser.add_argument("--timeout", type=float, default=300, help="seconds after which a run is stopped")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return run_as_child(*options.child)
    subprocess.run([sys.executable, "-m", "tools.make_models", *MODELS, *GROWTH], cwd=ROOT, check=True)
    tools = [*OURS, *(peer for peer in PEERS if options.peers and importlib.util.find_spec(peer))]
    jobs = [(tool, model) for model in MODELS for tool in tools]
    jobs += [(tool, model) for model in GROWTH for tool in ("fuseonnx", "copy")]
    runs = compare(jobs, options.rounds, options.timeout)
    print(setup())
    print_runs(runs)
    for (tool, model), run in runs.items():
        if run.failure and tool in OURS:
            sys.exit(f"error: {tool} failed on {model}: {run.failure}")
    print_targets(runs)


if __name__ == "__main__":
    main()
