"""What `optimize` did to a model, as dataclasses: the one source of the tables, the JSON and the Markdown."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class GraphStats:
    """Size of a model: nodes (bodies of If/Loop/Scan and local functions included) and weights."""

    nodes: int
    parameters: int
    """Number of elements of all initializers and Constant nodes."""
    weight_bytes: int
    ops: dict[str, int]
    """Operator name (`domain::Op` outside the standard domain) to number of nodes."""
    file_bytes: int = 0


@dataclass(frozen=True)
class RuleUse:
    """How often one rule rewrote something, and why it kept out where its pattern matched."""

    name: str
    fired: int
    declined: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SkippedFold:
    """A constant expression that was left in the graph, and the reason."""

    node: str
    op: str
    reason: str


@dataclass(frozen=True)
class RolledBack:
    """A rewrite that changed the answers and was undone."""

    rule: str
    at: str
    """Name of the value that the rewrite replaced."""
    reason: str


@dataclass(frozen=True)
class OutputDifference:
    """How far one output of the artifact is from the original's, over all runs of a verification.

    `max_abs` is the difference, in the output's own unit, at the element that comes nearest to what it is
    allowed, or exceeds it most; `relative` is that difference divided by the largest magnitude of the
    original's output, `noise_floor` how far the original itself moves there under valid re-evaluations,
    and `allowed` the difference up to which it passes. `dtype` is onnxruntime's name: `tensor(float)`…

    `multiple` is `max_abs` over `noise_floor`, infinite where what is wrong has no noise; `ulp` is `max_abs`
    in units in the last place; `max_ulp`, `mean_ulp`, `cosine` and `snr_db` (decibels) are over all elements,
    of the worst run, and like `ulp` None for what is not floating point; see `fuseonnx.runtime.metrics`.
    `run` is the run with `max_abs`.
    """

    name: str
    dtype: str
    max_abs: float
    mean_abs: float
    relative: float
    noise_floor: float
    allowed: float
    passed: bool
    reason: str = ""
    run: str = ""
    multiple: float = 0.0
    ulp: float | None = None
    max_ulp: float | None = None
    mean_ulp: float | None = None
    cosine: float | None = None
    snr_db: float | None = None


@dataclass(frozen=True)
class Verification:
    """Outcome of comparing an artifact with its original on onnxruntime."""

    status: Literal["passed", "failed", "skipped"]
    runs: int = 0
    outputs: tuple[OutputDifference, ...] = ()
    reason: str = ""
    """Why it failed or was skipped."""
    notes: tuple[str, ...] = ()
    """What the reader should know: random ops excluded, inputs of invalid range discarded, and the like."""


SWITCHED_OFF = Verification("skipped", reason="verification was switched off")


@dataclass(frozen=True)
class Timing:
    """One model against another on one set of inputs, in one interleaved race at onnxruntime's default level.

    `original` and `artifact` are the median seconds of one run; `ratio` is the median of the rounds'
    artifact / original (below 1 is faster), `low` to `high` its 95 % confidence interval.
    """

    inputs: str
    original: float
    artifact: float
    ratio: float
    low: float
    high: float
    rounds: int
    nodes: str = ""
    """How many of the artifact's nodes ran on which execution provider."""


@dataclass(frozen=True)
class Speed:
    """How fast the artifact is, compared with its original."""

    verdict: Literal["faster", "slower", "no difference", "not measured"]
    timings: tuple[Timing, ...] = ()
    """The largest inputs last."""
    provider: str = ""
    """The execution provider that was asked for."""
    threads: int = 0
    """Threads inside an operator; 0 is onnxruntime's own choice."""
    reason: str = ""
    """Why nothing was measured."""


@dataclass(frozen=True)
class Choice:
    """Another form of the same computation, kept only if the artifact was measured to be faster with it."""

    rule: str
    sites: int
    """How many places it rewrote."""
    kept: bool
    timings: tuple[Timing, ...] = ()
    """The artifact with it against the best without it."""
    reason: str = ""
    """Why it was not measured: it changes the answers, or onnxruntime cannot load it."""


@dataclass(frozen=True)
class Undone:
    """A rule left out because the artifact was slower with it."""

    rule: str
    sites: int
    ratio: float
    """Latency of the artifact with all its rules, over that of the original."""


@dataclass(frozen=True)
class Document:
    """A dataclass that can be written as JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as dictionaries and lists that any JSON parser reads back."""
        return {name: _json_ready(value) for name, value in dataclasses.asdict(self).items()}

    def to_json(self, indent: int | None = 2) -> str:
        """Return the report as a JSON document."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)


@dataclass(frozen=True)
class Export(Document):
    """How an ONNX model was made of a framework's, and how near its answers are to the framework's own."""

    source: str
    output: str | None
    """The ONNX file; None if it was made only to be optimized."""
    framework: str
    """With its version, as that of the exporter."""
    exporter: str
    opset: int
    parity: Verification
    """The ONNX model, run on onnxruntime with its optimizations off, against the framework."""
    seconds: dict[str, float]
    """Stage name to wall-clock seconds."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report(Document):
    """Everything `optimize` has to say about one model."""

    source: str
    output: str | None
    fuseonnx_version: str
    source_sha256: str
    before: GraphStats
    after: GraphStats
    rules: tuple[RuleUse, ...]
    skipped_folds: tuple[SkippedFold, ...]
    rolled_back: tuple[RolledBack, ...]
    verification: Verification
    seconds: dict[str, float]
    """Stage name to wall-clock seconds."""
    export: Export | None = None
    """How the model became ONNX, if it was not."""
    parity: Verification | None = None
    """The artifact against the framework, if the model came from one."""
    target: str = "portable"
    speed: Speed | None = None
    choices: tuple[Choice, ...] = ()
    """Forms that were tried for the target."""
    undone: tuple[Undone, ...] = ()
    """Rules left out so that the artifact is not slower than the original."""
    notes: tuple[str, ...] = ()
    """What the reader should know."""

    def to_markdown(self) -> str:
        """Return the report as Markdown, with the tables that the command line prints."""
        from fuseonnx.markdown import report_to_markdown

        return report_to_markdown(self)


def _json_ready(value: Any) -> Any:
    """Return `value` with infinities and NaN, which JSON lacks, as strings."""
    if isinstance(value, dict):
        return {key: _json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_ready(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
