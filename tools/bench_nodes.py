"""Count the nodes that each optimizer leaves, and check its answers, and print both as Markdown.

    python -m tools.bench_nodes                       # every model, every optimizer that is installed
    python -m tools.bench_nodes levit128 silero_vad   # some models
    python -m tools.bench_nodes --write               # put the page into docs/nodes.md as well

Nodes of If, Loop and Scan bodies and of local functions count. Every optimizer runs in a process of its own
with a time limit, so that a crash is one cell; what it writes is compared with the original, again in a
process of its own, by the verification that fuseonnx runs on its own results.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tools import architectures
from tools.bench_optimize import PEERS, run_child, setup
from tools.fetch_models import fetch
from tools.pages import DOCS, publish

OURS = "fuseonnx"
TOOLS = {
    "onnxsim": "onnxsim==0.8.1",
    "onnxslim": "onnxslim==0.1.98",
    "onnxoptimizer": "onnxoptimizer==0.4.2",
    "onnxscript": "onnxscript==0.7.2",
}
TARGETS = {
    "ch_PP-OCRv4_det_infer": 240,
    "ch_PP-OCRv4_rec_infer": 290,
    "ch_ppocr_mobile_v2.0_cls_infer": 150,
    "silero_vad": 100,
    "mobilenet": 58,
    "mobilenet_v2": 101,
    "efficientnet_b0": 245,
    "densenet121": 370,
    "nasnet_mobile": 650,
    "swin_t": 420,
    "bert_6": 170,
    "gpt2_6": 215,
    "whisper_encoder_4": 100,
    "levit128": 300,
    "repvgg_a2": 50,
}
INTRODUCTION = """# How many nodes are left

`python -m tools.bench_nodes --write` makes this page: it lets fuseonnx and four other optimizers rewrite
each model, counts the nodes that are left (those of bodies and local functions too), and compares the
answers with the original's, all by the verification that fuseonnx runs on its own results. The trained
models are those of `tools/fetch_models.py`, the others those of `tools/architectures.py`: real
architectures with random weights, as their exporters write them.

The fewest nodes of a model that still gives the right answers are bold. *fails*: the optimizer stopped with
an error, a crash or out of time. *no load*: onnxruntime refuses the result. *wrong*: the result runs, but
its inputs, its outputs or its answers are not those of the original.
"""


class Outcome(NamedTuple):
    """What one optimizer made of one model."""

    nodes: int | None = None
    """None if it made nothing."""
    trouble: str = ""
    """`fails`, `no load` or `wrong`; empty if its answers are right."""
    reason: str = ""


def optimize(tool: str, model: str, output: str) -> None:
    """Let a tool write its result; this is the work of a child process."""
    if tool == OURS:
        import fuseonnx

        fuseonnx.optimize(model, output, measure=False)
    else:
        PEERS[tool](model, output)()


def verify(model: str, result: str) -> None:
    """Print what the verification says about a result; this is the work of a child process."""
    from fuseonnx.errors import BackendError
    from fuseonnx.io.load import read_weightless
    from fuseonnx.runtime.session import open_session
    from fuseonnx.runtime.verify import Verifier

    verdict = {"trouble": "", "reason": ""}
    try:
        open_session(Path(result))
    except BackendError as error:
        verdict = {"trouble": "no load", "reason": str(error)}
    else:
        original = Path(model)
        found = Verifier(original, graph_of=read_weightless(original)).compare(Path(result))
        if found.status != "passed":
            verdict = {"trouble": "wrong", "reason": found.reason}
    print(f"\n{json.dumps(verdict)}", flush=True)


def outcome(tool: str, model: Path, timeout: float) -> Outcome:
    """Let `tool` rewrite the model, count the nodes of the result, and verify it."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.onnx"
        try:
            run_child(["-m", "tools.bench_nodes", "--optimize", tool, str(model), str(result)], timeout)
            nodes = count_nodes(result)
        except (RuntimeError, OSError) as error:
            return Outcome(trouble="fails", reason=str(error))
        try:
            said, _ = run_child(["-m", "tools.bench_nodes", "--verify", str(model), str(result)], timeout)
        except RuntimeError as error:
            return Outcome(nodes, "no load", str(error))
        verdict = json.loads(said.strip().splitlines()[-1])
        return Outcome(nodes, verdict["trouble"], verdict["reason"].replace(str(result), "the result"))


def count_nodes(path: Path) -> int:
    """Return the number of nodes of a model, those of bodies and local functions included."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    return _count(model.graph.node) + sum(_count(function.node) for function in model.functions)


def _count(nodes: Sequence[object]) -> int:
    bodies = (
        body
        for node in nodes
        for attribute in node.attribute  # type: ignore[attr-defined]
        for body in (attribute.g, *attribute.graphs)
    )
    return len(nodes) + sum(_count(body.node) for body in bodies)


def table(before: Mapping[str, int], found: Mapping[str, Mapping[str, Outcome]]) -> Iterator[str]:
    """Yield the lines of the table: models by tools."""
    tools = list(next(iter(found.values())))
    yield f"| model | before | {' | '.join(tools)} | target | met |"
    yield f"|---|---:|{'---:|' * len(tools)}---:|---|"
    for model, outcomes in found.items():
        right = [each.nodes for each in outcomes.values() if each.nodes is not None and not each.trouble]
        cells = [_cell(each, fewest=min(right, default=0)) for each in outcomes.values()]
        yield f"| {model} | {before[model]:,} | {' | '.join(cells)} | {_target(model, outcomes)} |"


def _cell(outcome: Outcome, *, fewest: int) -> str:
    if outcome.nodes is None:
        return "*fails*"
    if outcome.trouble:
        return f"{outcome.nodes:,} *{outcome.trouble}*"
    return f"**{outcome.nodes:,}**" if outcome.nodes == fewest else f"{outcome.nodes:,}"


def _target(model: str, outcomes: Mapping[str, Outcome]) -> str:
    ours, target = outcomes[OURS], TARGETS.get(model)
    if target is None:
        return "|"
    met = ours.nodes is not None and not ours.trouble and ours.nodes <= target
    return f"≤ {target} | {'yes' if met else '**no**'}"


def troubles(found: Mapping[str, Mapping[str, Outcome]]) -> Iterator[str]:
    """Yield a line for each result that is of no use."""
    for model, outcomes in found.items():
        for tool, each in outcomes.items():
            if each.trouble:
                yield f"- {tool} on {model}, *{each.trouble}*: `{' '.join(each.reason.split())[:200]}`"


def page(models: Mapping[str, Path], timeout: float) -> Iterator[str]:
    """Measure, and yield the lines of the page."""
    installed = [tool for tool in TOOLS if importlib.util.find_spec(tool)]
    yield INTRODUCTION
    yield setup()
    for tool in TOOLS.keys() - installed:
        yield f"{tool} is not installed: `pip install {TOOLS[tool]}` adds its column.\n"
    found: dict[str, dict[str, Outcome]] = {}
    for name, path in models.items():
        print(name, file=sys.stderr, flush=True)
        found[name] = {tool: outcome(tool, path, timeout) for tool in (OURS, *installed)}
    yield from table({name: count_nodes(path) for name, path in models.items()}, found)
    if any(troubles(found)):
        yield "\n## Results of no use\n"
        yield from troubles(found)


def main() -> None:
    """Run the command line, or the work of a child process."""
    parser = argparse.ArgumentParser(description="Count the nodes that each optimizer leaves.")
    parser.add_argument("names", nargs="*", metavar="MODEL", help="some of the models; default all")
    parser.add_argument("--timeout", type=float, default=300, help="seconds after which a tool is stopped")
    parser.add_argument("--write", action="store_true", help="write docs/nodes.md as well")
    parser.add_argument("--optimize", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--verify", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.optimize:
        return optimize(*options.optimize)
    if options.verify:
        return verify(*options.verify)
    real = fetch()
    known = [*real, *architectures.MAKERS]
    for name in options.names:
        if name not in known:
            parser.error(f"no model {name!r}; choose from {', '.join(known)}")
    models = {name: real.get(name) or architectures.model_path(name) for name in options.names or known}
    return publish(page(models, options.timeout), DOCS / "nodes.md", write=options.write)


if __name__ == "__main__":
    main()
