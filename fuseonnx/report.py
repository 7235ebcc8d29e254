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


@dataclass(frozen=True)
class _Document:
    """A dataclass that can be written as JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as dictionaries and lists that any JSON parser reads back."""
        return {name: _json_ready(value) for name, value in dataclasses.asdict(self).items()}

    def to_json(self, indent: int | None = 2) -> str:
        """Return the report as a JSON document."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)


@dataclass(frozen=True)
class Export(_Document):
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
class Report(_Document):
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
