"""What tools/zoo.py needs to know of a framework's model, and how it measures one."""

from __future__ import annotations

import dataclasses
import json
import math
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import fuseonnx
from tools.bench_optimize import machine, versions

if TYPE_CHECKING:
    import onnxruntime

    from fuseonnx.report import Verification

Arrays = Sequence[np.ndarray[Any, np.dtype[Any]]]
Call = Callable[[], Sequence[Arrays]]
"""Runs all batches and returns the outputs of each."""

VARIANTS = ("predict", "compiled", "onnx", "optimized")
"""The framework's own call, its fast one, onnxruntime on the exported file and on the optimized one."""
MIN_TIMING_SECONDS, MAX_TIMING_SECONDS = 2.0, 60.0
"""Rounds beyond those asked for are made until the first has passed; none is begun after the second."""
PACKAGES = ("keras", "tensorflow", "tf2onnx", "torch", "transformers", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Subject:
    """A model with random weights, ready to be exported and timed.

    Attributes:
        model: what `fuseonnx.export` takes.
        options: its keyword arguments.
        batches: ONNX input name to array, of batch size 1; one mapping for each image or sequence.
        predict: the framework's own call on all batches: for each its logits and, last, its final output,
            which is the same one in a model without a softmax.
        compiled: the same by tf.function or in torch.inference_mode.
        input: shapes and dtypes of the inputs.
        layers: Keras layers, or torch modules without children.
        parameters: of the framework's model.
        outputs: the ONNX names of what `predict` gives.
    """

    model: Any
    options: Mapping[str, Any]
    batches: Sequence[Mapping[str, Any]]
    predict: Call
    compiled: Call
    input: str
    layers: int
    parameters: int
    outputs: Sequence[str]


@dataclass(frozen=True)
class Difference:
    """How far onnxruntime is from the framework over all batches; `relative` to the largest magnitude."""

    max_abs: float
    mean_abs: float
    relative: float
    magnitude: float


@dataclass(frozen=True)
class Result:
    """One row of the table; of a model that failed, its name and the failure.

    Pairs are before and after optimizing. `seconds` is for all `images`, one at a time: variant to the
    fastest pass. Converting is without the comparison that follows it, optimizing with its verification.
    """

    framework: str
    name: str
    failure: str = ""
    input: str = ""
    layers: int = 0
    parameters: int = 0
    nodes: Sequence[int] = ()
    weights: Sequence[int] = ()
    file_bytes: Sequence[int] = ()
    images: int = 0
    threads: int = 0
    passes: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    convert_seconds: float = 0.0
    optimize_seconds: float = 0.0
    logits: Difference | None = None
    final: Difference | None = None
    exported_logits: Difference | None = None
    exporter: str = ""
    parity: str = ""
    verification: str = ""
    rolled_back: Sequence[str] = ()
    notes: Sequence[str] = ()
    setup: str = ""
    day: str = ""

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Result:
        """Read what `save` wrote."""
        values = json.loads(path.read_text(encoding="utf-8"))
        for name in ("logits", "final", "exported_logits"):
            values[name] = values[name] and Difference(**values[name])
        return cls(**values)


def measure(framework: str, name: str, subject: Subject, threads: int, rounds: int) -> Result:
    """Export and optimize a subject, compare both files with the framework, and time the four variants."""
    from fuseonnx.runtime.providers import Backend
    from fuseonnx.runtime.session import open_session

    with tempfile.TemporaryDirectory() as folder:
        exported, optimized = Path(folder) / "exported.onnx", Path(folder) / "optimized.onnx"
        export = fuseonnx.export(subject.model, exported, **subject.options).report
        start = time.perf_counter()
        report = fuseonnx.optimize(exported, optimized, measure=False).report
        optimize_seconds = time.perf_counter() - start
        calls: dict[str, Call] = {"predict": subject.predict, "compiled": subject.compiled}
        for variant, path in (("onnx", exported), ("optimized", optimized)):
            calls[variant] = _onnxruntime_call(
                open_session(path, Backend(threads=threads), optimized=True), subject
            )
        answers = {variant: call() for variant, call in calls.items()}  # warms up as well
        seconds, passes = time_interleaved(calls, rounds)
    return Result(
        framework=framework,
        name=name,
        input=subject.input,
        layers=subject.layers,
        parameters=subject.parameters,
        nodes=(report.before.nodes, report.after.nodes),
        weights=(report.before.parameters, report.after.parameters),
        file_bytes=(report.before.file_bytes, report.after.file_bytes),
        images=len(subject.batches),
        threads=threads,
        passes=passes,
        seconds=seconds,
        convert_seconds=sum(
            spent for stage, spent in export.seconds.items() if not stage.startswith("compare")
        ),
        optimize_seconds=optimize_seconds,
        logits=difference(answers["predict"], answers["optimized"], 0),
        final=difference(answers["predict"], answers["optimized"], -1),
        exported_logits=difference(answers["predict"], answers["onnx"], 0),
        exporter=export.exporter,
        parity=_verdict(export.parity),
        verification=_verdict(report.verification),
        rolled_back=[f"{undone.rule} at {undone.at}: {undone.reason}" for undone in report.rolled_back],
        notes=export.notes,
        setup=setup(),
        day=datetime.now(UTC).date().isoformat(),
    )


def time_interleaved(calls: Mapping[str, Callable[[], object]], rounds: int) -> tuple[dict[str, float], int]:
    """Return the fastest pass of each call in seconds, and the number of passes.

    A round is A B C D D C B A, so that a machine that gets slower or faster treats all alike.
    """
    fastest = dict.fromkeys(calls, math.inf)
    order = [*calls, *reversed([*calls])]
    begin = time.perf_counter()
    done = 0
    while done == 0 or time.perf_counter() - begin < (
        MAX_TIMING_SECONDS if done < rounds else MIN_TIMING_SECONDS
    ):
        for name in order:
            start = time.perf_counter()
            calls[name]()
            fastest[name] = min(fastest[name], time.perf_counter() - start)
        done += 1
    return fastest, 2 * done


def difference(expected: Sequence[Arrays], found: Sequence[Arrays], output: int) -> Difference:
    """Return how far one output is off over all batches.

    Raises:
        RuntimeError: the shapes differ, or a value is not finite.
    """
    right = np.concatenate([np.ravel(batch[output]) for batch in expected]).astype(np.float64)
    ours = np.concatenate([np.ravel(batch[output]) for batch in found]).astype(np.float64)
    if right.shape != ours.shape or not (np.isfinite(right).all() and np.isfinite(ours).all()):
        raise RuntimeError(f"output {output} has other shapes than the framework's, or infinities or NaN")
    apart = np.abs(right - ours)
    magnitude = float(np.abs(right).max())
    return Difference(float(apart.max()), float(apart.mean()), float(apart.max()) / magnitude, magnitude)


def setup() -> str:
    """Return the machine and the versions that numbers belong to, in one line."""
    ours = f"Python {platform.python_version()}", f"fuseonnx {fuseonnx.__version__}"
    return f"{machine()}; {', '.join([*ours, *versions(PACKAGES)])}"


def _onnxruntime_call(session: onnxruntime.InferenceSession, subject: Subject) -> Call:
    taken = {value.name for value in session.get_inputs()}
    feeds = [{name: batch[name] for name in taken} for batch in subject.batches]
    return lambda: [session.run(subject.outputs, feed) for feed in feeds]


def _verdict(verification: Verification) -> str:
    reason = f": {verification.reason}" if verification.status != "passed" else ""
    return f"{verification.status}{reason}"
