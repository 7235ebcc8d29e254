"""Race every optimizer's output against the original on onnxruntime, and print the table as Markdown.

    python -m tools.bench_latency                        # the models that have a target
    python -m tools.bench_latency --zoo                  # and every other model
    python -m tools.bench_latency densenet121 torch.vit  # some, again
    python -m tools.bench_latency --table --write        # only put the tables into docs/benchmarks.md

For each model every tool writes its file, in a process of its own. One more process opens all files and the
original on the CPU provider, float32, one thread, default optimization level, and lets them take turns on the
same input (fuseonnx/runtime/race.py). Answers that are not the original's are a failure, as is a crash. What
was measured is kept in `.cache/latency/results/`, so that a sweep that was cut off goes on where it was;
`--again` measures everything.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.bench_latency_models import CACHE, every_model, inputs_of, model_path
from tools.bench_latency_table import OURS, TARGETS, Entry, Result, page
from tools.bench_optimize import run_child
from tools.pages import BENCHMARKS, publish
from tools.peers import ONNXRUNTIME, PEERS

RESULTS = CACHE / "results"
MARKERS = ("<!-- latency -->", "<!-- /latency -->")
LARGE_BYTES = 500_000_000
"""Of such a model, the tools work one after the other: each may take ten times its memory."""


def tools() -> list[str]:
    """Return fuseonnx's columns and the peers that are installed."""
    return [*OURS, *(peer for peer in PEERS if peer == ONNXRUNTIME or importlib.util.find_spec(peer))]


def optimize(tool: str, name: str, output: str) -> None:
    """Let a tool write its file; this is the work of a child process.

    fuseonnx verifies and measures on the shapes and the one thread of the race.
    """
    model = model_path(name)
    if tool in OURS:
        import fuseonnx

        shapes = {key: value.shape for key, value in inputs_of(name, model).items()}
        fuseonnx.optimize(model, output, target=OURS[tool], threads=1, input_shapes=shapes)
    else:
        PEERS[tool](str(model), output)()


def measure(name: str, seconds: float, timeout: float) -> Result:
    """Let all tools write their files, race them, and return what came of it.

    Raises:
        RuntimeError: the model cannot be made, or the original does not run; one line.

    """
    module = ["-m", "tools.bench_latency"]
    run_child(["-m", "tools.bench_latency_models", name], timeout)
    model = model_path(name)
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        files = {tool: Path(folder) / f"{number}.onnx" for number, tool in enumerate(tools())}

        def failure_of(tool: str) -> str:
            try:
                run_child([*module, "--optimize", tool, name, str(files[tool])], timeout)
            except RuntimeError as error:
                return str(error)
            return "" if files[tool].exists() else "it wrote nothing"

        failures = {tool: failure_of(tool) for tool in OURS}  # alone, since they measure
        peers = [tool for tool in files if tool not in OURS]
        with ThreadPoolExecutor(1 if model.stat().st_size > LARGE_BYTES else 2) as pool:
            failures |= zip(peers, pool.map(failure_of, peers), strict=True)
        made = [f"{tool}={file}" for tool, file in files.items() if not failures[tool]]
        saved = Path(folder) / "result.json"
        run_child([*module, "--race", str(saved), str(seconds), name, str(model), *made], timeout)
        result = Result.load(saved)
    failed = {tool: Entry(failure=reason) for tool, reason in failures.items() if reason}
    return result.with_entries({tool: (failed | dict(result.entries))[tool] for tool in files})


def sweep(names: Sequence[str], options: argparse.Namespace) -> None:
    """Measure what is asked for and is not there yet, one after the other."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, 1):
        path = RESULTS / f"{name}.json"
        if path.exists() and not (options.names or options.again or Result.load(path).failure):
            continue
        start = time.perf_counter()
        try:
            result = measure(name, options.seconds, options.timeout)
        except RuntimeError as error:
            result = Result(name, failure=str(error))
        result.save(path)
        seconds = time.perf_counter() - start
        print(f"[{number}/{len(names)}] {result.line()} ({seconds:.0f} s)", file=sys.stderr, flush=True)


def results() -> Iterator[Result]:
    """Yield what was measured: the models with a target first."""
    paths = {path.stem: path for path in sorted(RESULTS.glob("*.json"))}
    for name in sorted(paths, key=lambda name: (name not in TARGETS, [*TARGETS, name].index(name))):
        yield Result.load(paths[name])


def main() -> None:
    """Run the command line, or the work of a child process."""
    parser = argparse.ArgumentParser(description="Race every optimizer's output against the original.")
    parser.add_argument("names", nargs="*", metavar="MODEL", help="models to measure (again)")
    parser.add_argument("--zoo", action="store_true", help="every model, not only those with a target")
    parser.add_argument("--again", action="store_true", help="measure also what is there already")
    parser.add_argument("--seconds", type=float, default=1.0, help="of runs for each file (default 1)")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one process")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    parser.add_argument("--optimize", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--race", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.optimize:
        return optimize(*options.optimize)
    if options.race:
        from tools.bench_latency_race import race_all

        saved, seconds, name, model, *files = options.race
        return race_all(Path(saved), float(seconds), name, model, dict(file.split("=", 1) for file in files))
    if options.names and (unknown := set(options.names) - set(every_model())):
        parser.error(f"no model {min(unknown)!r}; choose from {', '.join(every_model())}")
    if not options.table:
        sweep(options.names or (every_model() if options.zoo else list(TARGETS)), options)
    return publish(page(list(results())), BENCHMARKS, write=options.write, markers=MARKERS)


if __name__ == "__main__":
    main()
