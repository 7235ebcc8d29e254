"""What a frontend makes of a framework's model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from fuseonnx.errors import ExportError

Answers = Callable[[Mapping[str, Any]], Sequence[Any]]
"""Runs the framework's own model: ONNX input name to numpy array, to numpy arrays in ONNX output order."""

MAX_IR_VERSION = 10
"""Of what frontends create: servers lag behind."""


@dataclass(frozen=True)
class Conversion:
    """An ONNX file and the framework's model behind it.

    Attributes:
        path: the ONNX file; over 2 GiB its weights lie beside it.
        framework: with its version: `Keras 3.15.1`.
        exporter: with its version: `tf2onnx 1.17.0`, `torch.onnx 2.13.0 (dynamo)`.
        answers: what the framework says, in inference mode.
        notes: what the user should know, in one line each: a fall-back, a dimension that was baked in.
        other_answers: the same from the framework's other kernels, where these differ by much more than
            rounding: by how much is noise.
        examples: inputs that the caller gave, by the name of the ONNX model's input; to compare on where no
            made-up ones are accepted.
    """

    path: Path
    framework: str
    exporter: str
    answers: Answers
    notes: tuple[str, ...] = ()
    other_answers: Answers | None = None
    examples: Mapping[str, Any] | None = None


def first_line(error: Exception) -> str:
    """Return the first line of what an exception says."""
    return str(error).strip().partition("\n")[0]


def require(module: str, extra: str) -> ModuleType:
    """Import a framework.

    Raises:
        ExportError: it is not installed; the message is the line that installs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        if error.name and error.name.partition(".")[0] != module.partition(".")[0]:
            raise ExportError(f"{module} does not import: {error}") from error
        raise ExportError(f"needs {module}: pip install 'fuseonnx[{extra}]'") from None
