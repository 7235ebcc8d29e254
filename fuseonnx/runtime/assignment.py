"""Which nodes of an open session run on which execution provider."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fuseonnx.runtime.carried import kept_on_cpu
from fuseonnx.runtime.providers import CPU_PROVIDER

if TYPE_CHECKING:
    import onnxruntime

ASKED = "fuseonnx.provider"
"""Session config entry: the provider that was asked for."""
MISSING = "fuseonnx.missing"
"""Session config entry: why that provider is not there at all, where that was accepted."""
PLACED = "fuseonnx.placed"
"""Session config entry: the model's file, where the session obeys the placement in it, and else nothing."""
PLACEMENT_NOTE = "fuseonnx.placement_note"
"""Session config entry: what to say of the placement that the model carries."""
RECORD = "session.record_ep_graph_assignment_info"
PLACEMENT = "session.layer_assignment_settings"

_SHAPE_ARITHMETIC = (
    "Abs Add And Cast Ceil Clip Concat ConstantOfShape Div Equal Expand Flatten Floor Gather Greater"
    " GreaterOrEqual Identity Less LessOrEqual Max Min Mod Mul Neg Not Or Range ReduceMax ReduceMin"
    " ReduceProd ReduceSum Reshape Shape Size Slice Split Sqrt Squeeze Sub Transpose Unsqueeze Where"
)
"""Operators that onnxruntime itself puts on the CPU where they compute on shapes: they are faster there."""


@dataclass(frozen=True)
class AssignedNode:
    """A node as onnxruntime handed it out, after its first simplifications and before its fusions.

    Attributes:
        name: the node's name; onnxruntime makes one up for nodes of its own.
        op_type: the operator, with its domain before it where that is not ONNX's.
        provider: onnxruntime's name of the provider that runs it.
        kept: whether it runs on the CPU because the placement that the model carries says so.
    """

    name: str
    op_type: str
    provider: str
    kept: bool = False


@dataclass(frozen=True)
class Assignment:
    """Where the nodes of a session run; nodes inside the bodies of If, Loop and Scan count, too.

    Attributes:
        asked: the provider that was asked for.
        nodes: every node of the model and where it runs.
        missing: why nothing runs on the provider, where it is not there and the fall-back was accepted.
        placement: what to say of the placement that the model carries, nothing if it carries none.
    """

    asked: str
    nodes: tuple[AssignedNode, ...]
    missing: str = ""
    placement: str = ""

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Provider to operator to how many of its nodes run there, most frequent first."""
        found: dict[str, Counter[str]] = {}
        for node in self.nodes:
            found.setdefault(node.provider, Counter())[node.op_type] += 1
        return {provider: dict(counter.most_common()) for provider, counter in found.items()}

    @property
    def fallen(self) -> tuple[AssignedNode, ...]:
        """The nodes that run on the CPU although another provider was asked for.

        Arithmetic on shapes is not among them: onnxruntime puts it on the CPU by choice, unless nothing at
        all runs elsewhere. Nor is what the placement that the model carries keeps there.
        """
        if self.asked == CPU_PROVIDER.name:
            return ()
        meant = [node for node in self.nodes if not node.kept]
        on_cpu = tuple(node for node in meant if node.provider == CPU_PROVIDER.name)
        if len(on_cpu) == len(meant):
            return on_cpu
        allowed = _SHAPE_ARITHMETIC.split()
        return tuple(node for node in on_cpu if node.op_type not in allowed)

    def summary(self) -> str:
        """Return one line: how many nodes run where, and which of them were meant to run elsewhere."""
        line = f"{len(self.nodes)} node{'s'[: len(self.nodes) != 1]}"
        if self.missing:
            return f"{line}, all on the CPU instead of {self.asked}: {self.missing}"
        places = [
            f"{sum(operators.values())} on {provider.removesuffix('ExecutionProvider')}"
            for provider, operators in self.counts.items()
        ]
        line += f": {', '.join(places) or 'none'}"
        if self.fallen:
            line += f"; fallen back to the CPU: {operators_of(self.fallen)}"
        return f"{line}; {self.placement}" if self.placement else line


def operators_of(nodes: tuple[AssignedNode, ...]) -> str:
    """Return the operators of `nodes`, with how often each occurs: `Conv (3), Relu`."""
    counts = Counter(node.op_type for node in nodes).most_common()
    return ", ".join(op_type if count == 1 else f"{op_type} ({count})" for op_type, count in counts)


def assignment_of(session: onnxruntime.InferenceSession) -> Assignment:
    """Return where the nodes of a session of `open_session` run."""
    entry = session.get_session_options().get_session_config_entry
    found = [
        (node.name, f"{node.domain}.{node.op_type}" if node.domain else node.op_type, subgraph.ep_name)
        for subgraph in session.get_provider_graph_assignment_info()
        for node in subgraph.get_nodes()
    ]
    placed = entry(PLACED)
    kept = kept_on_cpu(Path(placed), found) if placed else [False] * len(found)
    nodes = tuple(AssignedNode(*each, stays) for each, stays in zip(found, kept, strict=True))
    return Assignment(entry(ASKED), nodes, entry(MISSING), entry(PLACEMENT_NOTE))
