"""Execution providers of onnxruntime, with their options as typed dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Provider:
    """An execution provider by onnxruntime's own name, with options as onnxruntime takes them."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict)


CPU_PROVIDER = Provider("CPUExecutionProvider")


@dataclass(frozen=True)
class Backend:
    """Where models run.

    Attributes:
        provider: the execution provider that is asked for.
        threads: threads inside an operator on the CPU; 0 leaves the number to onnxruntime.
        allow_fallback: accept that nodes, or all of the model, run on the CPU instead.
    """

    provider: Provider = CPU_PROVIDER
    threads: int = 0
    allow_fallback: bool = False


CPU = Backend()
"""The CPU provider with onnxruntime's own number of threads."""
