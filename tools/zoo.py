"""Export, optimize, compare and time every model of keras.applications, or PyTorch's, and print the tables.

    python -m tools.zoo keras                             # all of keras.applications
    python -m tools.zoo torch bert vit                    # some PyTorch models
    python -m tools.zoo keras --save docs/zoo.md          # writes docs/zoo.md and docs/zoo.json as well
    python -m tools.zoo keras --table --save docs/zoo.md  # from what was measured before

Every model runs in a process of its own, so that a crash is one row. Its result is kept in
`.cache/zoo/<framework>/<name>.json`: a sweep that was cut off goes on where it was, and measures again only
what failed or what the command line names; `--again` measures everything.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from pathlib import Path

from tools.bench_optimize import run_child
from tools.zoo_subject import Result, measure
from tools.zoo_table import page, section

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "zoo"
FRAMEWORKS = ("keras", "torch")
DEFAULT_TIMEOUT = 1200.0


def names_of(framework: str) -> list[str]:
    """Return the names of all models of a framework."""
    if framework == "keras":
        from tools.zoo_keras import constructors

        return list(constructors())
    from tools.zoo_torch import MODELS

    return list(MODELS)


def run_one(framework: str, name: str, images: int, rounds: int, threads: int) -> None:
    """Measure one model and keep its result; this is the work of a child process."""
    if framework == "keras":
        from tools.zoo_keras import subject
    else:
        from tools.zoo_torch_subject import subject
    try:
        result = measure(framework, name, subject(name, images, threads), threads, rounds)
    except Exception as error:  # the row of a model says what any of the frameworks raised
        reason = (str(error).strip() or "no message").splitlines()[0]
        result = Result(framework, name, failure=f"{type(error).__name__}: {reason}")
    result.save(cached(framework, name))


def sweep(options: argparse.Namespace) -> None:
    """Measure what is asked for and is not there yet, one after the other."""
    names = options.names or names_of(options.framework)
    for number, name in enumerate(names, 1):
        path = cached(options.framework, name)
        if path.exists() and not (options.names or options.again or Result.load(path).failure):
            continue
        path.unlink(missing_ok=True)
        start = time.perf_counter()
        counts = (options.images, options.rounds, options.threads)
        command = ["-m", "tools.zoo", options.framework, name, "--child", *map(str, counts)]
        try:
            run_child(command, options.timeout)
            result = Result.load(path)
        except (RuntimeError, OSError) as error:
            result = Result(options.framework, name, failure=str(error))
            result.save(path)
        outcome = result.failure or f"{result.nodes[0]} → {result.nodes[1]} nodes, {result.verification}"
        seconds = time.perf_counter() - start
        print(f"[{number}/{len(names)}] {name}: {outcome} ({seconds:.0f} s)", file=sys.stderr, flush=True)


def cached(framework: str, name: str) -> Path:
    """Return where the result of a model is kept."""
    return CACHE / framework / f"{name}.json"


def results_of(framework: str) -> list[Result]:
    """Return what was measured, in the order of the names."""
    return [Result.load(path) for path in sorted((CACHE / framework).glob("*.json"))]


def main() -> None:
    """Measure, print the tables, and save them if that is asked for."""
    parser = argparse.ArgumentParser(
        description="Measure and compare a zoo of models; print Markdown tables."
    )
    parser.add_argument("framework", choices=FRAMEWORKS)
    parser.add_argument("names", nargs="*", metavar="NAME", help="models to measure (again); default all")
    parser.add_argument("--images", type=int, default=4, help="inputs of each model (default 4)")
    parser.add_argument("--rounds", type=int, default=2, help="of two passes each (default 2)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="for every variant (default all)")
    parser.add_argument("--timeout", type=float, default=DEFAULT_TIMEOUT, help="seconds for one model")
    parser.add_argument("--again", action="store_true", help="measure also what is there already")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--save", type=Path, help="write the page of all frameworks, and JSON beside it")
    parser.add_argument("--child", nargs=3, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return run_one(options.framework, options.names[0], *options.child)
    if unknown := set(options.names) - set(names_of(options.framework)):
        parser.error(f"no model {min(unknown)!r}; choose from {', '.join(names_of(options.framework))}")
    if not options.table:
        sweep(options)
    print("\n".join(section(options.framework, results_of(options.framework))))
    if options.save:
        results = [result for framework in FRAMEWORKS for result in results_of(framework)]
        options.save.write_text(page(results), encoding="utf-8")
        values = [dataclasses.asdict(result) for result in results]
        options.save.with_suffix(".json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
