"""Optimize random models until the time is up, and write down each that comes out wrong, made small.

    python tools/fuzz.py --seconds 600 --seed 1000 --into fuzz-failures

Each failure becomes a folder named after its seed: the model as it was generated, the small one, its inputs
(`inputs_0.npz` and `inputs_1.npz`) and a text with what is wrong. The exit status is 1 if there is any.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.fuzzing.compare import Discard, Feeds, answers, judge  # noqa: E402
from tests.random_graphs import Case, random_case  # noqa: E402

Runs = list[dict[str, np.ndarray]]
LIMIT_SECONDS = 20


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to run")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first model; the next ones count up")
    parser.add_argument("--into", type=Path, default=Path("fuzz-failures"), help="folder for the failures")
    options = parser.parse_args()
    failed = discarded = 0
    seed, until = options.seed, time.monotonic() + options.seconds
    while time.monotonic() < until:
        case = random_case(seed)
        try:
            wrong = _judged(case.model, case.runs)
        except Discard:
            discarded += 1
            wrong = None
        if wrong:
            failed += 1
            print(f"seed {seed}: {write(case, wrong, options.into)}", flush=True)
        seed += 1
    print(f"{seed - options.seed} models, {discarded} not valid, {failed} wrong")
    return 1 if failed else 0


def write(case: Case, wrong: str, folder: Path) -> str:
    """Write a failing case to `folder/<seed>`; return what is wrong with its small form."""
    small, runs = minimize(case.model, [dict(run) for run in case.runs], wrong)
    wrong = _verdict(small, runs) or wrong
    into = folder / str(case.seed)
    into.mkdir(parents=True, exist_ok=True)
    onnx.save(case.model, into / "generated.onnx")
    onnx.save(small, into / "small.onnx")
    for index, run in enumerate(runs):
        np.savez(into / f"inputs_{index}.npz", **run)  # type: ignore[arg-type]
    (into / "wrong.txt").write_text(f"{wrong}\n\n{onnx.printer.to_text(small)}\n")
    return wrong


def minimize(model: onnx.ModelProto, runs: Runs, wrong: str) -> tuple[onnx.ModelProto, Runs]:
    """Drop outputs, and turn the results of nodes into inputs, as long as it fails in the same way."""
    kind = _kind(wrong)
    shrunk = True
    while shrunk:
        shrunk = False
        for smaller, smaller_runs in _smaller(model, runs):
            if _kind(_verdict(smaller, smaller_runs) or "") == kind:
                model, runs, shrunk = smaller, smaller_runs, True
                break
    return model, runs


def _kind(wrong: str) -> str:
    return wrong.partition(":")[0]


def _judged(model: onnx.ModelProto, runs: Sequence[Feeds]) -> str | None:
    """Judge a model; what takes longer than `LIMIT_SECONDS` has failed."""
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(LIMIT_SECONDS)
    try:
        return judge(model, runs)
    finally:
        signal.alarm(0)


def _late(*_: object) -> None:
    raise TimeoutError(f"no end after {LIMIT_SECONDS} s")


def _verdict(model: onnx.ModelProto, runs: Runs) -> str | None:
    try:
        return _judged(model, runs)
    except Discard:
        return None


def _smaller(model: onnx.ModelProto, runs: Runs) -> Iterator[tuple[onnx.ModelProto, Runs]]:
    if len(model.graph.output) > 1:
        for index in range(len(model.graph.output)):
            copy = _copy(model)
            del copy.graph.output[index]
            yield _pruned(copy, runs)
    values = _all_values(model, runs)
    for index, node in enumerate(model.graph.node):
        names = [name for name in node.output if name]
        if values and node.op_type != "Constant" and all(_has_one_rank(name, values) for name in names):
            yield _cut(model, runs, index, values)
    for index in range(len(model.graph.value_info)):
        copy = _copy(model)
        del copy.graph.value_info[index]
        yield copy, runs


def _has_one_rank(name: str, values: Runs) -> bool:
    """Whether every run has computed a value, and with the same number of dims."""
    return all(name in run for run in values) and len({run[name].ndim for run in values}) == 1


def _all_values(model: onnx.ModelProto, runs: Runs) -> list[dict[str, np.ndarray]]:
    """Return what every node of the main graph computes, for each run; nothing if onnxruntime refuses."""
    copy = _copy(model)
    outputs = {info.name for info in copy.graph.output}
    computed = [name for node in copy.graph.node for name in node.output if name and name not in outputs]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in computed)
    try:
        return answers(copy, runs)
    except Exception:  # any failure to expose the values means no more than a larger model
        return []


def _cut(
    model: onnx.ModelProto, runs: Runs, index: int, values: list[dict[str, np.ndarray]]
) -> tuple[onnx.ModelProto, Runs]:
    """Return the model with the outputs of a node as inputs."""
    copy = _copy(model)
    names = [name for name in copy.graph.node[index].output if name]
    del copy.graph.node[index]
    new_runs = [run | {name: values[i][name] for name in names} for i, run in enumerate(runs)]
    for name in names:
        shapes = [run[name].shape for run in new_runs]
        dims = [first if first == second else None for first, second in zip(*shapes, strict=True)]
        dtype = helper.np_dtype_to_tensor_dtype(new_runs[0][name].dtype)
        copy.graph.input.append(helper.make_tensor_value_info(name, dtype, dims))
    return _pruned(copy, new_runs)


def _pruned(model: onnx.ModelProto, runs: Iterable[Feeds]) -> tuple[onnx.ModelProto, Runs]:
    """Remove what no output needs from a model of one's own, and the inputs that are then left over."""
    graph = model.graph
    needed = {info.name for info in graph.output}
    for index in reversed(range(len(graph.node))):
        if needed.isdisjoint(graph.node[index].output):
            del graph.node[index]
        else:
            needed |= _reads(graph.node[index])
    for field in (graph.initializer, graph.input):
        for index in reversed(range(len(field))):
            if field[index].name not in needed:
                del field[index]
    del graph.value_info[:]
    left = {info.name for info in graph.input}
    return model, [{name: array for name, array in run.items() if name in left} for run in runs]


def _reads(node: onnx.NodeProto) -> set[str]:
    names = set(node.input)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            names.update(*(_reads(inner) for inner in attribute.g.node))
            names.update(info.name for info in attribute.g.output)
    return names


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


if __name__ == "__main__":
    sys.exit(main())
