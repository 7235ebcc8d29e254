"""Keras models (being written)."""

from __future__ import annotations
from collections.abc import Callable
from pathlib import Path
from typing import Any
from fuseonnx.frontends.conversion import Conversion
from fuseonnx.frontends.options import ExportOptions


def is_keras_model(obj: object) -> bool:
    return False


def load_keras(path: Path, options: ExportOptions) -> Any:
    raise NotImplementedError


def convert_keras(
    model: Any, folder: Path, options: ExportOptions, on_progress: Callable[[str], None]
) -> Conversion:
    raise NotImplementedError
