"""Keras files to models, and what to say when a file is none."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

from fuseonnx.errors import ExportError
from fuseonnx.frontends._quiet import quiet, quiet_first_import
from fuseonnx.frontends.conversion import require
from fuseonnx.frontends.options import ExportOptions

_BACKEND = "KERAS_BACKEND"
_UNKNOWN = re.compile(r"(?:Could not locate \w+|Unknown [\w ]+:) '(?:Custom>|\w+>)?([^']+)'")


def import_keras() -> ModuleType:
    """Import Keras; on PyTorch where TensorFlow is not installed and nobody chose a backend.

    Raises:
        ExportError: Keras or its backend is not installed.
    """
    missing = importlib.util.find_spec("tensorflow") is None and importlib.util.find_spec("torch") is not None
    chooses_torch = "keras" not in sys.modules and _BACKEND not in os.environ and missing
    if chooses_torch:
        os.environ[_BACKEND] = "torch"
    try:
        with quiet_first_import():
            return require("keras", "tensorflow")
    finally:
        if chooses_torch:
            del os.environ[_BACKEND]


def load_keras(path: Path, options: ExportOptions) -> Any:
    """Load a `.keras` or legacy `.h5` file, not compiled. Code in it runs only if `options.trust`.

    Raises:
        ExportError: the file is damaged, holds weights only, has a Lambda layer and no trust, or a layer that
            Keras does not know.
    """
    keras = import_keras()
    is_h5 = path.suffix.lower() in (".h5", ".hdf5")
    if not is_h5 and not zipfile.is_zipfile(path):
        raise ExportError(
            "is no Keras file, or a damaged one (a .keras file is a zip archive); save it again"
        )
    try:
        with quiet():
            return keras.models.load_model(
                path, custom_objects=dict(options.custom_objects), compile=False, safe_mode=not options.trust
            )
    except Exception as error:
        raise ExportError(_reason(error)) from error


def _reason(error: Exception) -> str:
    text = str(error)
    if "Lambda" in text and "safe_mode" in text:
        return "has a Lambda layer, which is Python code in the file; if you trust it, load it with --trust"
    if found := _UNKNOWN.search(text):
        return (
            f"has a layer or function of your own, '{found[1]}'; decorate it with "
            "@keras.saving.register_keras_serializable() and import it first, give custom_objects in Python, "
            "or name a function that returns the model: package.module:function"
        )
    if "No model config" in text:
        return (
            "holds weights only, the layers are missing; build the model in Python, call load_weights() and "
            "export that object, or name a function that does so: package.module:function"
        )
    if isinstance(error, OSError | KeyError | zipfile.BadZipFile):
        return f"is no Keras file, or a damaged one ({_first_line(text)}); save it again"
    return f"Keras cannot load it: {type(error).__name__}: {_first_line(text)}"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:300]
